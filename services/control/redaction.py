"""Secrets leave neither by name nor by value: in events, logs, the audit log, errors and configs.

By name: what stands under a key that names a secret, such as `api_key`. By value: the values of this process's own
secret variables, of those that recipes name, and of files that hold one, wherever in a text they stand. A value of less
than MIN_SECRET_CHARACTERS is masked by name alone: looked for everywhere, it would be found in words and numbers.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from shaping.secret_references import references_in, secret_of, spellings_of

REDACTED = "[redacted]"
MIN_SECRET_CHARACTERS = 6
MIN_WORD_CHARACTERS = 16
"""Of one word of a variable that holds several: no token is shorter (services/api/auth.py)."""

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_ALWAYS = re.compile(r"secrets?|passwords?|passwd|passphrase|authorization|credentials?")
# Of keys, tokens and what else: the word before them says of what they are.
_HARMLESS_BEFORE = {
    "token": re.compile(r"bos|end|eos|first|last|mask|max|min|next|pad|page|per|prompt|response|sep|start|stop|to|unk"),
    "key": re.compile(
        r"|answer|cache|class|config|group|idempotency|live|metric|of|other|prompt|question|recipe|request|reward"
        r"|solution|sort"
    ),
}
_SECRET_BEFORE_MANY = re.compile(r"access|api|auth|bearer|private|refresh|signing")
# A key that ends so says where a secret is, or of what kind; not what it is.
_POINTERS = re.compile(r"env|file|path|dir|name|mode|url|type|fd|sock|count")
_VARIABLE_WORD = re.compile(rf"tokens?|keys?|apikey|pat|{_ALWAYS.pattern}")


def names_a_secret(key: str) -> bool:
    """Whether what stands under this key is to be hidden: `hf_token` yes; `eos_token`, `token_env`, `num_tokens` no."""
    words = ["", *_words(key)]
    last, before = words[-1], words[-2] if len(words) > 1 else ""
    if _POINTERS.fullmatch(last):
        return False
    if any(map(_ALWAYS.fullmatch, words)) or last == "apikey":
        return True
    if last in _HARMLESS_BEFORE:
        return _HARMLESS_BEFORE[last].fullmatch(before) is None
    return last in ("keys", "tokens") and _SECRET_BEFORE_MANY.fullmatch(before) is not None


def names_a_secret_variable(name: str) -> bool:
    """Whether the value of an environment variable of this name is a secret; rather one too many."""
    words = _words(name)
    return bool(words) and not _POINTERS.fullmatch(words[-1]) and any(map(_VARIABLE_WORD.fullmatch, words))


class Redactor:
    """Masks what it knows; it can learn more, and forgets nothing.

    Args:
        secrets: values to mask wherever they stand.
        environment: where references of recipes are looked up.
    """

    def __init__(self, secrets: Iterable[str] = (), *, environment: Mapping[str, str] | None = None) -> None:
        self._environment = dict(environment or {})
        self._secrets: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        self.learn(secrets)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], *, secrets: Iterable[str] = ()) -> "Redactor":
        """One that knows the values of all variables whose names name a secret.

        Args:
            secrets: further values: tokens of the control plane.
        """
        own = [value for name, value in environment.items() if names_a_secret_variable(name)]
        # A variable may hold several, as LESSRL_TOKENS does; short words of it are names and numbers.
        words = [word for value in own for word in value.split() if len(word) >= MIN_WORD_CHARACTERS]
        return cls((*own, *words, *secrets), environment=environment)

    def learn(self, secrets: Iterable[str]) -> None:
        """Mask these too from now on."""
        found = {each.strip() for each in secrets}
        found = {each for each in found if len(each) >= MIN_SECRET_CHARACTERS} - self._secrets
        if not found:
            return
        self._secrets |= found
        spellings = {spelling for secret in self._secrets for spelling in spellings_of(secret)}
        # The longest first: a secret that begins with another one would keep its tail.
        self._pattern = re.compile("|".join(map(re.escape, sorted(spellings, key=lambda each: (-len(each), each)))))

    def learn_from_recipe(self, recipe: object) -> None:
        """Mask what a recipe refers to, as far as this process can read it: `${env:NAME}`, `${file:PATH}`, and the
        variables that its keys `..._env` name. What a key that names a secret holds itself is masked too.
        """
        self.learn(_secrets_of(recipe, self._environment))

    def text(self, text: str) -> str:
        """The text with every known value masked."""
        return self._pattern.sub(REDACTED, text) if self._pattern is not None else text

    def data(self, data: Any) -> Any:
        """JSON data of the same shape, with secrets masked by key and by value; a tuple becomes a list."""
        if isinstance(data, Mapping):
            return {self.text(str(key)): self._member(str(key), value) for key, value in data.items()}
        if isinstance(data, list | tuple):
            return [self.data(each) for each in data]
        return self.text(data) if isinstance(data, str) else data

    def _member(self, key: str, value: Any) -> Any:
        is_empty = value is None or value == "" or isinstance(value, bool)
        if names_a_secret(key) and not is_empty:
            # A reference tells where the secret is, which who reads the config must know.
            return value if isinstance(value, str) and references_in(value) else REDACTED
        return self.data(value)


def _words(name: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(name)]


def _secrets_of(data: object, environment: Mapping[str, str], key: str = "") -> Iterator[str]:
    if isinstance(data, Mapping):
        for name, value in data.items():
            yield from _secrets_of(value, environment, str(name))
    elif isinstance(data, list | tuple):
        for each in data:
            yield from _secrets_of(each, environment, key)
    elif isinstance(data, str):
        references = references_in(data)
        yield from filter(None, (secret_of(each, environment) for each in references))
        if _words(key)[-1:] == ["env"]:
            yield environment.get(data, "")
        elif names_a_secret(key) and not references:
            yield data
