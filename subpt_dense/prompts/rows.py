"""Rows from a file: a prompt learned elsewhere, or published class embeddings (K classes, D embedding)."""

import hashlib
import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from subpt_dense.prompts.base import PromptHead
from subpt_dense.prompts.foreign_rows import load_foreign_rows
from subpt_dense.prompts.held import Held
from subpt_dense.prompts.rows_file import load_rows
from subpt_dense.prompts.tower import frozen_maths
from subpt_dense.registry import MODELS
from subpt_dense.text import clean_name


@MODELS.register_module()
class RowsPrompt(PromptHead):
    """Frozen rows, looked up by name in a file. No text tower is loaded, and nothing is learned.

    Args:
        file: A rows file of :func:`subpt_dense.prompts.save_rows` (``.safetensors``), or rows without metadata
            (``.npy``, ``.pt``, ``.pth``), for which ``names`` and ``backbone`` must be given.
        vocabulary: Class names in label order; may be set later. Case, underscores and spaces do not count in the
            look-up.
        backbone: The model the rows must come from. For a rows file it is compared, for other files believed.
        weights_hash: Where given, the SHA-256 of the text weights the rows must come from; rows files only.
        names: The names of rows without metadata, in row order, or a ``.txt`` file with one a line.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If the file is damaged, comes from another backbone or weights, lacks a name of the vocabulary, or
            ``names`` and ``backbone`` are missing or superfluous.
    """

    _device_of: Tensor

    def __init__(
        self,
        file: str | os.PathLike,
        vocabulary: Sequence[str] = (),
        backbone: str | None = None,
        weights_hash: str | None = None,
        names: Sequence[str] | str | None = None,
    ) -> None:
        super().__init__()
        self.file = str(file)
        if self.file.endswith(".safetensors"):
            if names is not None:
                raise ValueError(f"`names` of RowsPrompt must not be given for {self.file}, which carries its own.")
            loaded = load_rows(file)
        else:
            if names is None or backbone is None or weights_hash is not None:
                got = f"names={None if names is None else 'given'}, {backbone=}, {weights_hash=}"
                raise ValueError(
                    f"`names` and `backbone` of RowsPrompt must be given for {self.file}, which carries neither, and "
                    f"`weights_hash`, which it cannot show, must not. Got {got}."
                )
            loaded = load_foreign_rows(file, names, backbone)
        for key, wanted in {"backbone": backbone, "weights_hash": weights_hash}.items():
            if wanted is not None and loaded.metadata[key] != wanted:
                raise ValueError(
                    f"`{key}` of RowsPrompt must be that of the rows in {self.file}, {loaded.metadata[key]!r} "
                    f"({loaded.metadata['weights']}). Got {wanted!r}. Rows of one model mean nothing to another."
                )
        self.metadata = loaded.metadata
        self._table = loaded.unit_rows()  # a plain attribute: in no state dict, float32 whatever the model becomes
        self._index = {clean_name(name).casefold(): i for i, name in enumerate(loaded.names)}
        self._rows: Held[Tensor] = Held()
        # Without parameters, an empty buffer is what tells the head where the model was moved.
        self.register_buffer("_device_of", torch.empty(0), persistent=False)
        if vocabulary:
            self.vocabulary = vocabulary

    @property
    def embed_dim(self) -> int:
        """D, the length of a row."""
        return self._table.shape[1]

    def _check_vocabulary(self, names: tuple[str, ...]) -> None:
        missing = [name for name in names if clean_name(name).casefold() not in self._index]
        if missing:
            listed = ", ".join(map(repr, missing[:20])) + (" and more" if len(missing) > 20 else "")
            raise ValueError(
                f"`vocabulary` of RowsPrompt must be names in {self.file}, which holds {len(self._index)}. "
                f"Got {len(missing)} others: {listed}."
            )

    def forward(self, image_features: Tensor | None = None) -> Tensor:
        """Unit rows ``[K, D]`` float32, without graph.

        Raises:
            RuntimeError: If there is no vocabulary.
        """
        if not self.vocabulary:
            raise RuntimeError("`vocabulary` of RowsPrompt is not set: assign the class names first.")
        device = self._device_of.device
        rows = self._rows.get((self.vocabulary, device))
        if rows is None:
            order = [self._index[clean_name(name).casefold()] for name in self.vocabulary]
            with frozen_maths():
                rows = self._table[order].to(device)
            self._rows.put(rows, (self.vocabulary, device))
        return rows

    def identity(self) -> dict[str, Any]:
        """Type, the file's metadata, and a checksum of its rows."""
        digest = hashlib.sha256(self._table.numpy().tobytes()).hexdigest()
        origin = {"type": type(self).__name__, "file": os.path.basename(self.file)}
        return origin | self.metadata | {"rows_sha256": digest}
