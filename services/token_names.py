"""Token ids as text, one by one or a whole response, by a model's tokenizer alone: no model, torch or transformers."""

from pathlib import Path

from tokenizers import Tokenizer

from shaping.checks import IntArray
from shaping.cutting import Decode
from shaping.errors import DataError

REPLACEMENT = "\ufffd"


class TokenNames:
    """The text of each token id; each id is decoded once."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._names: dict[int, str] = {}

    @classmethod
    def load(cls, model: str) -> "TokenNames":
        """Read a tokenizer.

        Args:
            model: a folder with tokenizer.json, or a Hugging Face name.
        Raises:
            DataError: none there.
        """
        return cls(_read_tokenizer(model))

    def __call__(self, token_id: int) -> str:
        """The text that this token adds behind another one; its name in the vocabulary where it is no whole text."""
        name = self._names.get(token_id)
        if name is None:
            name = self._names[token_id] = self._decode(token_id)
        return name

    def _decode(self, token_id: int) -> str:
        # Some decoders strip the space in front of the first token: what the second of two tokens adds keeps it.
        once, twice = (self._tokenizer.decode([token_id] * times, skip_special_tokens=False) for times in (1, 2))
        text: str = twice[len(once) :]
        if text and REPLACEMENT not in text:
            return text
        name: str | None = self._tokenizer.id_to_token(token_id)
        return f"<{token_id}>" if name is None else name


def load_decoder(model: str) -> Decode:
    """What gives a response's tokens the text that rollout engines give them: without special tokens.

    Args:
        model: a folder with tokenizer.json, or a Hugging Face name.
    Raises:
        DataError: none there.
    """
    tokenizer = _read_tokenizer(model)

    def decode(token_ids: IntArray) -> str:
        text: str = tokenizer.decode(token_ids.tolist(), skip_special_tokens=True)
        return text

    return decode


def _read_tokenizer(model: str) -> Tokenizer:
    path = Path(model) / "tokenizer.json"
    try:
        return Tokenizer.from_file(str(path)) if path.is_file() else Tokenizer.from_pretrained(model)
    except Exception as error:
        # Both calls raise plain Exception, whatever is wrong: a border to foreign code.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"a tokenizer.json must be there, found none that can be read: {reason} ({model})") from error
