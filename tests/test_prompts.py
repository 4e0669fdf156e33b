"""What text encoders are given for a prompt, whoever else asks at the same time."""

from __future__ import annotations

import threading

import pytest
import torch

from conftest import tiny_pipeline
from forwardinf.models.prompts import PromptReader
from forwardinf.models.sd import StableDiffusion
from forwardinf.types import ModelSpec

PROMPTS = ["", "red apple", "apple " * 40, "Café, ÉCLAIR  \t 漢字 🦩 <|endoftext|>", "it's 12 o'clock!", "x" * 500]


def test_token_ids_are_those_of_the_tokenizer_itself():
    pipeline = tiny_pipeline()
    reader = PromptReader(pipeline.tokenizer, pipeline.text_encoder)
    given = {"padding": "max_length", "truncation": True, "max_length": 24, "return_tensors": "pt"}
    assert torch.equal(reader.ids(PROMPTS), pipeline.tokenizer(PROMPTS, **given).input_ids)


def test_prompts_do_not_depend_on_what_others_set_the_tokenizer_to(tiny_model: StableDiffusion):
    before, unread = tiny_model.encode_prompt(PROMPTS), [tiny_model.unread_text(prompt) for prompt in PROMPTS]
    shared = tiny_model.pipeline.tokenizer.backend_tokenizer
    shared.no_padding()
    shared.enable_truncation(3)
    assert torch.equal(tiny_model.encode_prompt(PROMPTS), before)
    assert [tiny_model.unread_text(prompt) for prompt in PROMPTS] == unread
    assert shared.padding is None
    assert shared.truncation["max_length"] == 3


def test_a_prompt_is_encoded_whole_while_another_thread_asks_what_is_unread(
    tiny_model: StableDiffusion, monkeypatch: pytest.MonkeyPatch
):
    """The other thread comes where it does most harm: between setting up the shared tokenizer and using it."""
    expected = tiny_model.encode_prompt(["red apple"])
    assert expected.shape == (1, 24)
    kind, here = type(tiny_model.pipeline.tokenizer), threading.current_thread()
    set_up = kind.set_truncation_and_padding

    def interrupted(self: object, *given: object, **named: object) -> None:
        set_up(self, *given, **named)
        if threading.current_thread() is here:
            other = threading.Thread(target=tiny_model.unread_text, args=("green pear",))
            other.start()
            other.join()

    monkeypatch.setattr(kind, "set_truncation_and_padding", interrupted)
    assert torch.equal(tiny_model.encode_prompt(["red apple"]), expected)


def test_any_thread_may_read_prompts():
    model = StableDiffusion(tiny_pipeline(), ModelSpec("tiny"))
    expected, wrong = model.encode_prompt(["red apple"]), []

    def encode() -> None:
        wrong.extend(not torch.equal(model.encode_prompt(["red apple"]), expected) for _ in range(300))

    def read() -> None:
        wrong.extend(model.unread_text("apple " * 22 + "the end").strip() != "the end" for _ in range(300))

    threads = [threading.Thread(target=work) for work in (encode, read, encode, read)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wrong) == 1200
    assert not any(wrong)
