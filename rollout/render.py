"""Messages to token ids, once per prompt; engines and shaping only ever see the ids.

How messages are written, and what ends a response to them, is the business of a file in rollout/templates.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from rollout.templates.base import PromptTemplate, StopRules
from rollout.tokenizer import load_tokenizer, token_id
from shaping.checks import IntArray
from shaping.components import ComponentSpec, load, parse_spec
from shaping.errors import DataError
from shaping.records import Prompt

KEY = "rollout.prompt_template"


class Renderer:
    """Renders prompts and hints with the model's tokenizer.

    Args:
        tokenizer: a Hugging Face tokenizer.
        template: a kind of rollout/templates, as a recipe writes it.
        max_prompt_tokens: longest prompt.
    Raises:
        RecipeError: no such template, or an option that it does not have.
        DataError: a template that needs what this tokenizer does not have: a chat template, an end token.
    """

    def __init__(self, tokenizer: Any, *, template: ComponentSpec | str, max_prompt_tokens: int) -> None:
        spec = parse_spec(template, KEY)
        self._tokenizer = tokenizer
        self.template: PromptTemplate = load("rollout.templates", spec, KEY).build(tokenizer=tokenizer)
        self.stop_rules = _stop_rules(self.template, tokenizer, spec.kind)
        self.max_prompt_tokens = max_prompt_tokens
        # A prompt is first asked whether it fits, then rendered.
        self._last: tuple[Prompt, IntArray] | None = None

    def prompt_ids(self, prompt: Prompt) -> IntArray:
        """[L_p] int32.

        Raises:
            DataError: a prompt without content, with turns that the template does not take, or longer than
                `max_prompt_tokens`.
        """
        ids = self._rendered(prompt)
        if len(ids) > self.max_prompt_tokens:
            raise DataError(
                f"a prompt must have at most {self.max_prompt_tokens} tokens, found {len(ids)} "
                f"(prompt {prompt.prompt_id}): raise rollout.max_prompt_tokens or leave the row out"
            )
        return ids

    def fits(self, prompt: Prompt, *, hint: str = "") -> bool:
        """Whether a prompt is short enough, with a hint behind it.

        Raises:
            DataError: a prompt without content, or with turns that the template does not take.
        """
        num_tokens = len(self._rendered(prompt)) + (len(self.hint_ids(hint)) if hint else 0)
        return num_tokens <= self.max_prompt_tokens

    def check_turns(self, prompts: Iterable[Prompt]) -> None:
        """Render one prompt of each sequence of roles, so that a run does not meet turns it cannot write at step 500.

        Raises:
            DataError: a prompt without content, or with turns that the template does not take.
        """
        seen: set[tuple[str, ...]] = set()
        for prompt in prompts:
            roles = tuple(message.role for message in prompt.messages)
            if roles not in seen:
                seen.add(roles)
                self._rendered(prompt)

    def _rendered(self, prompt: Prompt) -> IntArray:
        if self._last is None or self._last[0] is not prompt:
            self._last = (prompt, self._render(prompt))
        return self._last[1]

    def _render(self, prompt: Prompt) -> IntArray:
        if not any(message.content.strip() for message in prompt.messages):
            raise DataError(f"a prompt must have content, found none (prompt {prompt.prompt_id})")
        try:
            text = self.template.text(prompt.messages)
        except DataError as error:
            raise DataError(f"{error} (prompt {prompt.prompt_id}, {KEY})") from error
        # A row may hold the BOS itself, and two of them are a prompt that no model has seen.
        bos = getattr(self._tokenizer, "bos_token", None)
        has_bos = bool(bos and text.startswith(bos))
        return self._encode(text, add_special_tokens=self.template.adds_special_tokens and not has_bos)

    def hint_ids(self, hint: str) -> IntArray:
        """[K] int32: the hint tokenised on its own, so that it never merges with the prompt's last token."""
        return self._encode(hint, add_special_tokens=False)

    def _encode(self, text: str, *, add_special_tokens: bool) -> IntArray:
        return np.asarray(self._tokenizer(text, add_special_tokens=add_special_tokens)["input_ids"], dtype=np.int32)


def load_renderer(model_path: str, *, template: ComponentSpec | str, max_prompt_tokens: int) -> Renderer:
    """A renderer with the tokenizer at `model_path`."""
    return Renderer(load_tokenizer(model_path), template=template, max_prompt_tokens=max_prompt_tokens)


def _stop_rules(template: PromptTemplate, tokenizer: Any, kind: str) -> StopRules:
    ids = []
    for name in template.end_tokens:
        found = token_id(tokenizer, name)
        if found is None:
            raise DataError(
                f"prompt_template {kind} ends a response with the token {name}, which this tokenizer does not have "
                f"({KEY}): use chat or plain, or a model that was trained with it"
            )
        ids.append(found)
    return StopRules(strings=template.stop_strings, token_ids=tuple(ids))
