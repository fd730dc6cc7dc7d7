"""Token ids as text: what one token adds behind another, whatever its tokenizer does at the start of a text."""

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models
from transformers import AutoTokenizer

from services.token_names import TokenNames, load_decoder
from shaping.errors import DataError

ROOT = Path(__file__).parents[2]


def names_of(words: list[str], decoder: object) -> TokenNames:
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token=words[0]))
    tokenizer.decoder = decoder
    return TokenNames(tokenizer)


def test_spaces_in_front_of_a_token_stay() -> None:
    byte_level = names_of(["\u0120the", "the", "\u010a"], decoders.ByteLevel())
    assert [byte_level(each) for each in range(3)] == [" the", "the", "\n"]
    # These two strip the space of a text's first token.
    assert names_of(["\u2581the", "s"], decoders.Metaspace())(0) == " the"
    assert names_of(["the", "##s"], decoders.WordPiece())(1) == "s"


def test_a_part_of_a_character_is_shown_by_its_name() -> None:
    # 0xE2 0x82 0xAC is the euro sign; a byte-level tokenizer may hold its first two bytes alone.
    byte_level = names_of(["\u00e2\u0124", "\u00e2\u0124\u00ac"], decoders.ByteLevel())
    assert byte_level(0) == "\u00e2\u0124"
    assert byte_level(1) == "\u20ac"


def test_an_id_outside_of_the_vocabulary_is_a_number() -> None:
    assert names_of(["a"], decoders.Fuse())(7) == "<7>"


def test_texts_of_the_quickstart_policy_join_to_what_it_decodes() -> None:
    folder = ROOT / "deploy" / "quickstart" / "policy"
    names = TokenNames.load(str(folder))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    text = "To start, 9-2=7.\nSo the final answer is \\boxed{7}.<|im_end|>"
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert "".join(map(names, ids)) == text


def test_a_folder_without_a_tokenizer_is_refused_in_one_line(tmp_path: Path) -> None:
    for content in (None, "{}"):
        if content is not None:
            (tmp_path / "tokenizer.json").write_text(content)
        with pytest.raises(DataError, match=r"a tokenizer\.json must be there") as caught:
            TokenNames.load(str(tmp_path))
        assert "\n" not in str(caught.value)


def test_a_response_has_the_text_that_the_rollout_engines_give_it() -> None:
    folder = ROOT / "deploy" / "quickstart" / "policy"
    decode, tokenizer = load_decoder(str(folder)), AutoTokenizer.from_pretrained(folder)
    rng = np.random.default_rng(3)
    for num_tokens in (0, 1, 2, 5, 40, 200):
        ids = rng.integers(0, len(tokenizer), num_tokens).astype(np.int32)
        assert decode(ids) == tokenizer.decode(ids.tolist(), skip_special_tokens=True)
    ends = np.array([tokenizer.eos_token_id], np.int32)
    assert decode(ends) == ""


def test_a_model_without_a_tokenizer_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match=r"a tokenizer.json must be there, found none that can be read"):
        load_decoder(str(tmp_path))
