"""Prompt heads, class names in and unit rows out, and the files of both."""

from subpt_dense.prompts.averaged import AveragedPrompt
from subpt_dense.prompts.base import PromptHead
from subpt_dense.prompts.conditional import ConditionalPrompt
from subpt_dense.prompts.context import ContextPrompt
from subpt_dense.prompts.foreign_rows import load_foreign_rows
from subpt_dense.prompts.learned import LearnedPrompt
from subpt_dense.prompts.prompt_file import PromptFile, load_prompt, save_prompt
from subpt_dense.prompts.prompt_list import ListedPrompt, read_prompt_list, write_prompt_list
from subpt_dense.prompts.rows import RowsPrompt
from subpt_dense.prompts.rows_file import RowsFile, load_rows, save_rows
from subpt_dense.prompts.template import TemplatePrompt
from subpt_dense.prompts.tower import TowerPrompt

__all__ = [
    "AveragedPrompt",
    "ConditionalPrompt",
    "ContextPrompt",
    "LearnedPrompt",
    "ListedPrompt",
    "PromptFile",
    "PromptHead",
    "RowsFile",
    "RowsPrompt",
    "TemplatePrompt",
    "TowerPrompt",
    "load_foreign_rows",
    "load_prompt",
    "load_rows",
    "read_prompt_list",
    "save_prompt",
    "save_rows",
    "write_prompt_list",
]
