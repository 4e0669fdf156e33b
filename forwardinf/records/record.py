"""A finished answer as it is kept and exchanged: typed, versioned, and the same JSON for the same answer."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

SCHEMA = 2  # records of schema 1 have no number; `upgrade.read_record` reads both
CAUTION = "Estimated influence is neither copying nor infringement."


def _encodable(text: object) -> object:
    """Text that UTF-8 can hold: a file name may have bytes that are not, which Python reads as lone surrogates."""
    return text.encode("utf-8", "replace").decode("utf-8") if isinstance(text, str) else text


Agreement = Literal["agrees", "differs", "not stated"]
Text = Annotated[str, BeforeValidator(_encodable)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class LoraRecord(_Part):
    """An adapter that a picture's file says it was made with."""

    name: Text
    weight: float | None = None
    hash: Text = ""
    same: Agreement = Field(default="not stated", exclude_if=lambda same: same == "not stated")  # the index's adapter


class GenerationRecord(_Part):
    """What a picture's file says of how it was generated; somebody stated it."""

    prompt: Text = ""  # the words that a model reads
    written: Text = ""  # as it stands in the file
    negative: Text = ""
    program: Text = ""
    seed: Text = ""
    sampler: Text = ""
    model: Text = ""
    model_hash: Text = ""
    loras: tuple[LoraRecord, ...] = ()
    notes: tuple[Text, ...] = ()  # what of the prompt is not honoured
    same_model: Agreement = "not stated"  # the hash, beside the index's model


class QueryRecord(_Part):
    """What was asked about."""

    sha256: str  # of the picture's original bytes
    prompt: Text  # as given; may be empty
    fallback_caption: Text | None = None  # the caption that was used because no prompt was given
    notes: tuple[Text, ...] = ()  # what was converted when the picture was read
    file_name: Text = ""
    generation: GenerationRecord | None = Field(default=None, exclude_if=lambda stated: stated is None)

    @property
    def prompt_used(self) -> str:
        return self.prompt if self.fallback_caption is None else self.fallback_caption


class MethodRecord(_Part):
    """Which method answered, with every setting it had."""

    name: str
    settings: dict[str, Any]


class Mirrored(_Part):
    """What the gradient steps on the query did to its loss."""

    loss_before: float
    loss_after: float
    step_sizes: tuple[float, ...] = ()


class ModelRecord(_Part):
    name: str
    fingerprint: str
    tunable: str  # which weights the query moved


class IndexRecord(_Part):
    name: str
    fingerprint: str
    examples: int  # images in the index
    trained: int  # of these, images the model was trained on; only they are ranked
    draws: int  # per image
    draw_seed: int
    fit: str | None = None  # how pictures were made the model's shape; None where that was not recorded
    flip: bool = False  # whether losses are means of a picture and its mirrored one


class ConfidenceRecord(_Part):
    """What the answer as a whole was compared with."""

    # Training images; None where the null distribution is missing or too small.
    number_standing_out: int | None = Field(alias="stand_out")
    false_discovery_rate: float
    null_pictures: int  # pictures the model never saw that the scores were compared with
    threshold: float | None = None  # an image stands out where it scores above this; None where that is unknown
    highest_of_null: tuple[float, ...] = ()  # the highest score for each of the null pictures


class WeighedRecord(_Part):
    """What an answer rests on that did not weigh every training image."""

    images: int  # training images that were weighed, the most likely ones and a sample
    first: int  # how many images were to be decided
    ended: str  # why no more were weighed
    overlooked: float  # images expected to belong among the first, of those that were not weighed


# Fields of a match that are those of its image in the catalog.
FROM_CATALOG = (
    *("caption", "subject", "collection", "creator", "licence", "licence_url", "source_url"),
    *("split", "repeats", "sha256"),
)


class AdapterRecord(_Part):
    """What the model's adapter did to an image's mean loss: how well it learned the image."""

    loss: float
    loss_without: float  # of the base model, at the same draws


class Match(_Part):
    """A training image in an answer: its score, how far it can be trusted, and whose image it is."""

    rank: int
    id: str
    score: float
    standard_error: float | None  # None for a method with a single figure per image
    p_value: float | None  # None without a null distribution
    stands_out: bool | None
    rank_range: tuple[int, int]  # best and worst rank when any one draw is left out
    similarity: float  # cosine with the query
    similarity_rank: int  # among training images
    per_draw: tuple[float, ...]  # from little noise to much
    size_draws: int  # of these, how many (the last) measure the size of the prediction
    caption: Text
    subject: Text  # what the image shows; its caption where nothing shorter is known
    collection: Text
    creator: Text
    licence: Text  # SPDX identifier
    licence_url: Text
    source_url: Text
    split: str
    repeats: int | None  # how often an epoch of training showed it; None where that was not recorded
    sha256: str
    is_fallback_caption: bool  # whether its caption was used as the prompt
    adapter: AdapterRecord | None = Field(default=None, exclude_if=lambda adapter: adapter is None)  # None without one


class GroupRecord(_Part):
    """A collection, licence or creator as a whole."""

    name: Text
    images: int
    mean_rank: float
    outranks: float  # effect size: how often its images rank above others; 0.5 by chance
    p_value: float  # one-sided, adjusted for the number of groups tested


class Groups(_Part):
    """How the groups of each kind rank, highest first."""

    collection: tuple[GroupRecord, ...]
    licence: tuple[GroupRecord, ...]
    creator: tuple[GroupRecord, ...]


class Record(_Part):
    """A finished answer: what was asked, of whom, what came out, and how far it can be trusted."""

    schema_version: Literal[2] = Field(default=2, alias="schema")
    version: str
    answered_at: AwareDatetime | None  # UTC; None in records of earlier versions
    caution: str = CAUTION
    query: QueryRecord
    method: MethodRecord
    mirrored: Mirrored | None  # None for a method that takes no steps on the query
    model: ModelRecord
    index: IndexRecord
    confidence: ConfidenceRecord
    weighed: WeighedRecord | None = Field(default=None, exclude_if=lambda weighed: weighed is None)  # None for all
    verdict: str = ""  # in words, for readers of the JSON; `text.verdict_of` has it in parts
    results: tuple[Match, ...]  # best first
    groups: Groups
    seconds: float | None = None  # that the answer took

    def to_json(self) -> str:
        """The record as JSON that ends in a line break; the same record gives the same text."""
        return self.model_dump_json(indent=1, by_alias=True) + "\n"

    @property
    def standing_out(self) -> tuple[Match, ...]:
        """The listed images that stand out."""
        return tuple(match for match in self.results if match.stands_out)
