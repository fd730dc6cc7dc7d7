"""Messages to token ids, once per prompt; engines and shaping only ever see the ids."""

from typing import Any, Literal

import numpy as np

from rollout.tokenizer import load_tokenizer
from shaping.checks import IntArray
from shaping.errors import DataError
from shaping.records import Prompt


class Renderer:
    """Renders prompts and hints with the model's tokenizer.

    Args:
        tokenizer: a Hugging Face tokenizer.
        template: "chat" applies its chat template and opens the assistant's turn; "plain" joins the messages' contents.
        max_prompt_tokens: longest prompt.
    Raises:
        DataError: "chat" with a tokenizer that has no chat template.
    """

    def __init__(self, tokenizer: Any, *, template: Literal["chat", "plain"], max_prompt_tokens: int) -> None:
        if template == "chat" and not getattr(tokenizer, "chat_template", None):
            raise DataError(
                "prompt_template chat needs a tokenizer with a chat template, found none "
                "(rollout.prompt_template): use plain, or a model with a template"
            )
        self._tokenizer = tokenizer
        self._template = template
        self.max_prompt_tokens = max_prompt_tokens
        # A prompt is first asked whether it fits, then rendered.
        self._last: tuple[Prompt, IntArray] | None = None

    def prompt_ids(self, prompt: Prompt) -> IntArray:
        """[L_p] int32.

        Raises:
            DataError: a prompt without content, or one longer than `max_prompt_tokens`.
        """
        ids = self._rendered(prompt)
        if len(ids) > self.max_prompt_tokens:
            raise DataError(
                f"a prompt must have at most {self.max_prompt_tokens} tokens, found {len(ids)} "
                f"(prompt {prompt.prompt_id}): raise rollout.max_prompt_tokens or leave the row out"
            )
        return ids

    def fits(self, prompt: Prompt) -> bool:
        """Whether a prompt is short enough.

        Raises:
            DataError: a prompt without content.
        """
        return len(self._rendered(prompt)) <= self.max_prompt_tokens

    def _rendered(self, prompt: Prompt) -> IntArray:
        if self._last is None or self._last[0] is not prompt:
            self._last = (prompt, self._render(prompt))
        return self._last[1]

    def _render(self, prompt: Prompt) -> IntArray:
        if not any(message.content.strip() for message in prompt.messages):
            raise DataError(f"a prompt must have content, found none (prompt {prompt.prompt_id})")
        if self._template == "chat":
            text = self._tokenizer.apply_chat_template(
                [{"role": each.role, "content": each.content} for each in prompt.messages],
                tokenize=False,
                add_generation_prompt=True,
            )
            # The template writes its own special tokens.
            return self._encode(text, add_special_tokens=False)
        return self._encode("".join(each.content for each in prompt.messages), add_special_tokens=True)

    def hint_ids(self, hint: str) -> IntArray:
        """[K] int32: the hint tokenised on its own, so that it never merges with the prompt's last token."""
        return self._encode(hint, add_special_tokens=False)

    def _encode(self, text: str, *, add_special_tokens: bool) -> IntArray:
        return np.asarray(self._tokenizer(text, add_special_tokens=add_special_tokens)["input_ids"], dtype=np.int32)


def load_renderer(model_path: str, *, template: Literal["chat", "plain"], max_prompt_tokens: int) -> Renderer:
    """A renderer with the tokenizer at `model_path`."""
    return Renderer(load_tokenizer(model_path), template=template, max_prompt_tokens=max_prompt_tokens)
