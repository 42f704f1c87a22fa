"""What most modeling tests start from."""

from pathlib import Path
from typing import Any

import pytest

from tasks.modeling.words import SpecialIds, load_tokenizer, special_ids
from tests.modeling.kit import SPECIAL, save_tokenizer


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(folder)
    return folder


@pytest.fixture(scope="session")
def tokenizer(tokenizer_folder: Path) -> Any:
    return load_tokenizer(tokenizer_folder)


@pytest.fixture(scope="session")
def special(tokenizer: Any) -> SpecialIds:
    return special_ids(tokenizer, SPECIAL)
