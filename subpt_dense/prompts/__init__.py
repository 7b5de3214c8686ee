"""Prompt heads, class names in and unit rows out, and the rows file."""

from subpt_dense.prompts.base import PromptHead
from subpt_dense.prompts.context import ContextPrompt
from subpt_dense.prompts.foreign_rows import load_foreign_rows
from subpt_dense.prompts.rows import RowsPrompt
from subpt_dense.prompts.rows_file import RowsFile, load_rows, save_rows
from subpt_dense.prompts.template import TemplatePrompt
from subpt_dense.prompts.tower import TowerPrompt

__all__ = [
    "ContextPrompt",
    "PromptHead",
    "RowsFile",
    "RowsPrompt",
    "TemplatePrompt",
    "TowerPrompt",
    "load_foreign_rows",
    "load_rows",
    "save_rows",
]
