"""The tokenizer of a Hugging Face model, without its weights."""

from typing import Any

from transformers import AutoTokenizer

from shaping.errors import DataError


def load_tokenizer(model_path: str) -> Any:
    """The model's tokenizer.

    Raises:
        DataError: none there.
    """
    try:
        return AutoTokenizer.from_pretrained(model_path)
    except (OSError, ValueError) as error:
        raise DataError(f"model.path must hold a tokenizer: {str(error).splitlines()[0]} ({model_path})") from error
