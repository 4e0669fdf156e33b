"""The prompt that a picture's file carries, in every form that generators write, and in hostile ones."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from made_records import record
from PIL import Image, PngImagePlugin
from safetensors.torch import save_file
from typer.testing import CliRunner

from forwardinf.cli.main import app
from forwardinf.errors import UnreadablePicture
from forwardinf.examples.decoding import read_picture, sandbox
from forwardinf.examples.provenance import generators
from forwardinf.examples.provenance.generation import Generation, Lora, read_generation
from forwardinf.examples.provenance.prompts import as_written, plain
from forwardinf.models.generation import MAX_PROMPT
from forwardinf.records.origin import agreement, compared, facts_of, origin_notes, searched
from forwardinf.records.reading import reading_notes
from forwardinf.types import Adapter, ModelSpec
from forwardinf.web import query, query_view

WEBUI = (
    "a (red:1.3) apple, ((shiny)) <lora:fruit:0.8>\nNegative prompt: blurry\n"
    "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 42, Size: 512x512, Model hash: 3f2a9c1b22, Model: fruits, "
    'Lora hashes: "fruit: aabbccddeeff", Version: v1.9'
)
COMFY = {
    "3": {"class_type": "KSampler", "inputs": {
        "seed": 7, "steps": 20, "cfg": 8, "sampler_name": "euler", "scheduler": "normal", "denoise": 1,
        "model": ["10", 0], "positive": ["6", 0], "negative": ["7", 0]}},
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "v1.safetensors"}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a green pear", "clip": ["10", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "bad", "clip": ["10", 1]}},
    "10": {"class_type": "LoraLoader", "inputs": {
        "lora_name": "pears.safetensors", "strength_model": 0.7, "model": ["4", 0], "clip": ["4", 1]}},
}  # fmt: skip
INVOKE = {
    "positive_prompt": "a blue plum", "negative_prompt": "x", "seed": 5, "steps": 30, "cfg_scale": 7.5,
    "scheduler": "euler", "model": {"name": "Plums", "hash": "blake3:abcd"},
    "loras": [{"model": {"name": "plum", "hash": "blake3:ff"}, "weight": 0.5}],
}  # fmt: skip
FOOOCUS = {
    "prompt": "a kiwi", "negative_prompt": "", "seed": "9", "sampler": "dpmpp", "scheduler": "karras", "steps": 30,
    "guidance_scale": 4, "sharpness": 2, "base_model": "jugger", "base_model_hash": "aeb7e9e689",
    "loras": [["kiwi", 0.3, "cc11"]], "version": "Fooocus v2.5",
}  # fmt: skip


def png(**texts: str) -> bytes:
    info, buffer = PngImagePlugin.PngInfo(), io.BytesIO()
    for name, text in texts.items():
        info.add_text(name.replace("_", "-") if name == "sd_metadata" else name, text)
    Image.new("RGB", (16, 16), "red").save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def with_exif(format: str, *, comment: bytes | None = None, camera: str | None = None) -> bytes:
    exif, buffer = Image.Exif(), io.BytesIO()
    if comment is not None:
        exif.get_ifd(0x8769)[0x9286] = comment
    if camera is not None:
        exif[0x0110] = camera
    Image.new("RGB", (16, 16), "red").save(buffer, format, exif=exif)
    return buffer.getvalue()


def test_each_program_is_read_with_prompt_seed_sampler_model_and_adapters():
    webui = read_generation(png(parameters=WEBUI))
    assert (webui.program, webui.prompt, webui.negative) == ("AUTOMATIC1111", "a red apple, shiny", "blurry")
    assert (webui.seed, webui.sampler, webui.model, webui.model_hash) == ("42", "Euler a", "fruits", "3f2a9c1b22")
    assert webui.loras == (Lora("fruit", 0.8, "aabbccddeeff"),)
    assert webui.written.startswith("a (red:1.3) apple")
    comfy = read_generation(png(prompt=json.dumps(COMFY)))
    assert (comfy.program, comfy.prompt, comfy.negative) == ("ComfyUI", "a green pear", "bad")
    assert (comfy.seed, comfy.sampler, comfy.model) == ("7", "euler", "v1.safetensors")
    assert comfy.loras == (Lora("pears.safetensors", 0.7),)
    invoke = read_generation(png(invokeai_metadata=json.dumps(INVOKE)))
    assert (invoke.program, invoke.prompt, invoke.model_hash) == ("InvokeAI", "a blue plum", "blake3:abcd")
    assert invoke.loras == (Lora("plum", 0.5, "blake3:ff"),)
    fooocus = read_generation(png(parameters=json.dumps(FOOOCUS)))
    assert (fooocus.program, fooocus.prompt, fooocus.model_hash) == ("Fooocus", "a kiwi", "aeb7e9e689")
    assert fooocus.loras == (Lora("kiwi", 0.3, "cc11"),)


@pytest.mark.parametrize("format", ["JPEG", "WEBP"])
def test_jpeg_and_webp_carry_the_same_in_their_exif(format: str):
    for order in ("utf-16-be", "utf-16-le"):
        found = read_generation(with_exif(format, comment=b"UNICODE\0" + WEBUI.encode(order)))
        assert (found.prompt, found.model_hash) == ("a red apple, shiny", "3f2a9c1b22")
    assert read_generation(with_exif(format, camera=f"prompt:{json.dumps(COMFY)}")).prompt == "a green pear"
    assert read_generation(with_exif(format, comment=b"ASCII\0\0\0a plain remark")).prompt == "a plain remark"


def test_a_prompt_without_settings_is_read_and_a_picture_without_one_says_nothing():
    assert read_generation(png(parameters="a red apple\nSteps: 20")).prompt == "a red apple"
    assert read_generation(png()) is None
    assert read_generation(png(Author="Ada")) is None
    assert read_generation(with_exif("JPEG")) is None


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("a (red:1.3) apple", "a red apple"),
        ("((very (shiny:1.1))) [dull]", "very shiny dull"),
        (r"girl \(fate\), (hat \(blue\):0.8)", "girl (fate), hat (blue)"),
        ("<lora:a:1>, <lora:b:0.5>, apple,, <hypernet:c:1>", "apple"),
        ("a [cat:dog:0.5]", "a [cat:dog:0.5]"),
        ("((((", "(((("),
    ],
)
def test_weights_and_tags_are_read_as_the_words_that_they_stand_for(written: str, read: str):
    assert plain(written)[0] == read


def test_what_is_not_honoured_of_a_prompt_is_told():
    assert "not applied" in plain("(red:1.3)")[2][0]
    assert "as it is written" in plain("[cat:dog:0.5]")[2][0]
    assert plain("a red apple") == ("a red apple", [], [])
    assert plain("<lora:fruit:0.8><lora:x>")[1] == [("fruit", 0.8), ("x", None)]
    long = Generation(prompt="apple " * 200)
    short = long.shortened(MAX_PROMPT)
    assert len(short.prompt) <= MAX_PROMPT
    assert short.prompt.endswith("apple")
    assert "only its beginning" in short.notes[0]


HOSTILE = {
    "nested": png(prompt="[" * 100_000),
    "deep": png(prompt='{"a":' * 50_000),
    "parentheses": png(parameters="(" * 9000 + ":1.3)" * 2000),
    "colons": png(parameters="[" + ":" * 9999),
    "digits": png(parameters="(a:" + "1" * 9990 + "x"),
    "no texts": png(invokeai_metadata=json.dumps({"positive_prompt": ["x"], "scheduler": 3, "model": 5, "loras": 7})),
    "wrong shapes": png(prompt=json.dumps({"1": 5, "2": {"inputs": [1]}, "3": {"inputs": {"lora_name": {}}}})),
    "no numbers": png(parameters='{"loras": [[1, NaN], [], 5], "prompt": {}, "base_model": []}'),
    "truncated": png(parameters=WEBUI)[:120],
    "code": with_exif("JPEG", comment=b"UNICODE\0\xff\xfe\xd8"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_metadata_has_a_named_outcome(name: str):
    found, unread = searched(HOSTILE[name])
    assert found is None or isinstance(found, Generation)
    assert not unread or unread.startswith("The prompt that the file may carry was not read")


def test_a_text_too_large_to_unpack_is_not_read_and_the_picture_is():
    info, buffer = PngImagePlugin.PngInfo(), io.BytesIO()
    info.add_text("parameters", "a" * 5_000_000, zip=True)
    Image.new("RGB", (16, 16), "red").save(buffer, "PNG", pnginfo=info)
    found, unread = searched(buffer.getvalue())
    assert found is None
    assert "was not read" in unread
    assert read_picture(buffer.getvalue()).rgb.size == (16, 16)


def test_a_search_that_dies_or_lies_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sandbox, "_command", lambda *_: ["false"])
    with pytest.raises(UnreadablePicture, match="its decoder failed"):
        read_generation(png(parameters=WEBUI))
    for answer in ("nonsense", '["a"]', '{"loras": 3}', '{"loras": [[1]]}'):
        monkeypatch.setattr(sandbox, "_command", lambda *_, answer=answer: ["echo", answer])
        with pytest.raises(UnreadablePicture, match="no usable answer"):
            read_generation(png(parameters=WEBUI))


def test_the_hash_in_a_file_agrees_with_the_model_or_differs_or_cannot_be_compared(tmp_path: Path):
    header = b'{"__metadata__":{}}'
    model = tmp_path / "model.safetensors"
    model.write_bytes(len(header).to_bytes(8, "little") + header + b"weights")
    whole, inside = hashlib.sha256(model.read_bytes()).hexdigest(), hashlib.sha256(b"weights").hexdigest()
    for stated in (whole[:10], whole[:10].upper(), whole, inside[:12]):
        assert agreement(stated, model) == "agrees"
    assert agreement("0123456789", model) == "differs"
    for stated in ("", "abc", "blake3:abcd", "not hexadecimal"):
        assert agreement(stated, model) == "not stated"
    assert agreement(whole[:10], tmp_path) == "not stated"
    model.write_bytes(model.read_bytes() + b"more")
    assert agreement(whole[:10], model) == "differs"


def test_the_hash_of_before_reads_the_second_mebibyte_and_says_nothing_of_a_smaller_file(tmp_path: Path):
    large, small = tmp_path / "large.ckpt", tmp_path / "small.ckpt"
    large.write_bytes(bytes(0x100000) + b"weights")
    small.write_bytes(b"weights")
    assert agreement(hashlib.sha256(b"weights").hexdigest()[:8], large) == "agrees"
    assert agreement(hashlib.sha256(b"").hexdigest()[:8], small) == "differs"


@pytest.mark.parametrize("recorded", [True, False])
def test_the_adapter_in_a_file_is_this_indexs_or_another_or_cannot_be_compared(tmp_path: Path, recorded: bool):
    """AUTOMATIC1111 takes the hash that kohya's sd-scripts recorded, and else that of what follows the header."""
    adapter = tmp_path / "fruit.safetensors"
    metadata = {"sshs_model_hash": "12" * 32} if recorded else {}
    save_file({"a.lora_up.weight": torch.ones(2, 2)}, adapter, metadata)
    inside = hashlib.sha256(torch.ones(2, 2).numpy().tobytes()).hexdigest()
    spec = ModelSpec(str(tmp_path), adapter=Adapter(str(adapter)))

    def told(digest: str, of: ModelSpec = spec) -> str:
        stated = read_generation(png(parameters=WEBUI.replace("aabbccddeeff", digest)))
        return origin_notes(record(query={"prompt": stated.prompt, "generation": compared(stated, of)}))[2]

    mine = "12" * 6 if recorded else inside[:12]
    assert told(mine) == f"The file says that it was made with LoRA fruit ({mine}), which is this index’s."
    assert told(hashlib.sha256(adapter.read_bytes()).hexdigest()[:12]).endswith("which is this index’s.")
    for of, digest in ((spec, "aabbccddeeff"), (ModelSpec(str(tmp_path)), mine)):
        assert "which is not this index’s: the answer is about another model" in told(digest, of)
    assert told("none").endswith("that hash cannot be compared with this index’s.")


def test_forge_is_known_by_its_version():
    forge = WEBUI.replace("v1.9", "f2.0.1v1.10.1-previous-664-gd557aef9").replace(
        "Euler a,", "Euler, Schedule type: Simple,"
    )
    found = read_generation(png(parameters=f"{forge}, Module 1: ae, Diffusion in Low Bits: Automatic"))
    assert (found.program, found.prompt, found.sampler) == ("Forge", "a red apple, shiny", "Euler")
    assert found.loras == (Lora("fruit", 0.8, "aabbccddeeff"),)


def test_a_graph_costs_no_more_than_the_nodes_near_its_first_samplers():
    """A ring of samplers took as many walks around it as it has nodes, until the child's time was up."""
    sampler = {"sampler_name": "euler", "steps": 1, "cfg": 1, "seed": 3}
    ring = {
        str(n): {"class_type": "KSampler", "inputs": {
            **sampler, **{key: [str((n + 1) % 3000), 0] for key in ("model", "positive", "negative")}}}
        for n in range(3000)
    }  # fmt: skip
    assert len(generators._near_samplers(ring)) == generators.MOST_NODES
    assert read_generation(png(prompt=json.dumps(ring))).seed == "3"
    assert generators._near_samplers(COMFY) == {key: COMFY[key] for key in ("3", "10", "6", "7", "4")}


def test_a_text_is_read_no_further_than_people_write():
    """Each of these beginnings had the rest of the line searched for an end that is not there."""
    found = read_generation(png(parameters="a red apple\nSteps: 20\n" + "Hashes: {" * 100_000))
    assert found.prompt == "a red apple"


def test_what_a_typed_prompt_says_in_vain_is_told_by_every_door():
    assert as_written("a (fruit) [bowl]") == ""
    assert as_written("a (red:1.3) apple <lora:fruit:0.8>").startswith(
        "“<lora:fruit:0.8>” and “(red:1.3)” in the prompt"
    )
    model: Any = SimpleNamespace(reads_prompts=True, unread_text=lambda prompt: "on a hill")
    unread, vain = reading_notes(model, "a (red:1.3) apple on a hill")
    assert unread.endswith("ignored: “on a hill”.")
    assert vain.startswith("“(red:1.3)” in the prompt is read as plain text")


def test_a_record_tells_what_the_file_says_and_how_it_compares(tmp_path: Path):
    stated = Generation(prompt="a red apple", program="ComfyUI", seed="7", model="v1", model_hash="3f2a9c1b22",
                        loras=(Lora("fruit", 0.8, "aabb"),), notes=("weights are not applied",))  # fmt: skip
    kept = compared(stated, ModelSpec(str(tmp_path), adapter=Adapter(str(tmp_path / "none.safetensors"))))
    told = origin_notes(record(query={"prompt": "a red apple", "generation": kept}))
    assert told[0].startswith("The prompt is the one in the picture’s file. It says: written by ComfyUI · seed 7")
    assert "model hash 3f2a9c1b22; this index’s model has no such hash" in told[1]
    assert told[2].endswith("LoRA fruit (aabb); that hash cannot be compared with this index’s.")
    assert told[3] == "Weights are not applied."
    for same, words in (("agrees", "which is this index’s model."), ("differs", "which is not this index’s model")):
        shown = kept.model_copy(update={"same_model": same})
        assert words in origin_notes(record(query={"prompt": "a red apple", "generation": shown}))[1]
    other = origin_notes(record(query={"prompt": "a pear", "generation": kept}))
    assert other[0].startswith("The picture’s file carries another prompt: “a red apple”")
    assert origin_notes(record()) == []
    assert facts_of(Generation()) == ""


def test_a_record_without_such_a_file_is_the_json_it_was():
    assert "generation" not in record().to_json()
    kept = record(query={"prompt": "a", "generation": compared(Generation(prompt="a"), ModelSpec("model"))})
    assert type(kept).model_validate_json(kept.to_json()) == kept


def test_the_prompt_of_a_file_is_offered_unless_one_was_typed():
    form: Any = SimpleNamespace(prompt="field", used_prompt="state")
    stated = Generation(prompt="a red apple")
    offered = {"field": "a red apple", "state": "a red apple"}
    assert query._offered(form, stated, "", None) == offered
    assert query._offered(form, stated, "of the former picture", "of the former picture") == offered
    assert query._offered(form, stated, "typed", "of the former picture") == {}
    assert query._offered(form, None, "of the former picture", "of the former picture")["field"] == ""
    assert len(query._offered(form, Generation(prompt="apple " * 500), "", None)["field"]) <= MAX_PROMPT


def test_the_command_line_uses_the_prompt_of_the_file_and_says_so(
    tiny_checkpoint: Path, patches_index: Path, tmp_path: Path
):
    (tmp_path / "a.png").write_bytes(png(parameters=WEBUI))
    asked = ["attribute", str(tmp_path / "a.png"), "--index", str(patches_index), "--model", str(tiny_checkpoint)]
    told = CliRunner().invoke(app, [*asked, "--json"])
    assert told.exit_code == 0, told.output
    assert "The prompt in the file is used: “a red apple, shiny” (written by AUTOMATIC1111 · seed 42" in told.stderr
    kept = json.loads(told.stdout)["query"]
    assert (kept["prompt"], kept["generation"]["same_model"]) == ("a red apple, shiny", "not stated")
    long = CliRunner().invoke(app, [*asked, "--prompt", "(patch:1.3) " + "1 " * 100, "--json"])
    unread, vain = json.loads(long.stdout)["query"]["notes"]
    assert "longer than the model reads" in unread
    assert "“(patch:1.3)”" in vain
    own = CliRunner().invoke(app, [*asked, "--prompt", "patch 1"])
    assert "The picture’s file carries another prompt: “a red apple, shiny”" in own.stdout
    assert "is used" not in own.stderr


def test_an_uploaded_picture_shows_the_prompt_that_it_carries():
    data = png(parameters=WEBUI)
    shown = query_view.given_picture(b"", "a.png", read_picture(data), *searched(data))
    assert "its file carries the prompt “a red apple, shiny”, written by AUTOMATIC1111 · seed 42" in shown
    assert "weights in the file’s prompt" in shown
    hostile = Generation(prompt="<script>alert(1)</script>")
    assert "<script>" not in query_view.given_picture(b"", "a.png", read_picture(data), hostile)
