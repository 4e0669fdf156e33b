"""What the studies found, told side by side."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from conftest import ASSETS
from forwardinf.cli import suite
from forwardinf.cli.main import app
from forwardinf.cli.options import method_from
from forwardinf.errors import DamagedAsset, InvalidRequest, MissingAsset
from forwardinf.methods.protocol import settings_of
from forwardinf.methods.registry import load_method
from forwardinf.studies import summary
from forwardinf.studies.reports import label_of, read_reports


def of_method(name: str, **others: object) -> dict[str, object]:
    return {"method": settings_of(load_method(name)), "tunable": "all", "version": "0", **others}


def lds(name: str, mean: float, **others: object) -> dict[str, object]:
    row = {"mean": mean, "interval": [mean - 3, mean + 2], "reliability": 84.0, "queries": 170}
    settings = of_method(name, **{"subsets": 64, "part": "reported", **others})
    return {"study": "lds", "settings": settings, "lds": {"all": row}}


def customisation(name: str, mean: float) -> dict[str, object]:
    figure = {"mean": mean, "interval": [mean - 0.05, mean + 0.02]}
    recall = {str(k): figure | {"best_possible": 1.0} for k in (1, 5, 10)}
    row = {"kind": "all", "cases": 12, "recall": recall, "map": figure, "curve": {"1": mean, "10": 1.0}}
    groups = [{"part": "choosing", **row, "map": figure | {"mean": 0.1}}, {"part": "reported", **row}]
    settings = of_method(name, pictures=2, candidates=1000)
    return {"study": "customisation", "settings": settings, "groups": groups}


CALIBRATION = {
    "study": "calibration",
    "settings": of_method("forward_inf", reference_queries=29),
    "rate": 0.1,
    "false_discovery": [
        {"kind": "photograph", "queries": 400, "sources": 9, "share": 0.2, "interval": [0.1, 0.3], "failed": 0},
        {"kind": "all unrelated", "queries": 60, "sources": 9, "share": 0.05, "interval": [0.02, 0.13], "failed": 0},
    ],
    "detection": {
        "queries": 40,
        "share": 0.95,
        "interval": [0.83, 0.99],
        "goal": 0.9,
        "failed": 0,
        "called_beside": 7,
        "queries_with_more": 3,
    },
    "held_out_called": 0.001,
    "null_p_values": [0.05, 0.4, 0.9],
}
REPORTS = [
    lds("das", 32.0),
    lds("forward_inf", 44.0, reference_queries=29),
    lds("trak", 45.0),
    customisation("forward_inf", 0.93),
    customisation("similarity", 0.8),
    CALIBRATION,
]


def write(folder: Path, reports: list[dict[str, object]]) -> Path:
    for number, report in enumerate(reports):
        (folder / f"{number}.json").write_text(json.dumps(report))
    return folder


def test_methods_are_listed_best_first_whoever_that_is():
    told = summary.as_markdown(REPORTS)
    places = [
        told.index(name)
        for name in ("| `trak` | 170 | 45.0", "| **`forward_inf`** | 170 | 44.0", "| `das` | 170 | 32.0")
    ]
    assert places == sorted(places)
    assert "| **`forward_inf`** | 170 | 44.0 | 41.0 – 46.0 |" in told
    assert "| **`forward_inf`** | 12 | 0.930 | 0.930 | 0.930 | 0.930 | 0.880 – 0.950 |" in told  # the reported part
    assert "| all unrelated | 60 | 9 | 5.0% [2.0%, 13.0%] |" in told
    assert "95.0% [83.0%, 99.0%]" in told
    assert "Leave-k-out" not in told  # of which there is no report


def test_steadiness_is_told_beside_the_other_studies():
    figures = {"spread": 4.2, "claimed": 2.9, "ratio": 1.2, "within": 0.54, "again": 0.64}
    settings = of_method("forward_inf", queries=12, part="reported", seeds=4, top=10)
    told = summary.as_markdown([{"study": "steadiness", "settings": settings, **figures}])
    assert "12 queries of the reported part, each at 4 draw seeds" in told
    assert "- 54% of the ranks at another seed" in told


def leave_k_out(**losses: float) -> dict[str, object]:
    def measure(mean: float) -> dict[str, object]:
        each = [mean + (-1) ** n * 0.001 for n in range(8)]
        over = {"mean": 0.01, "interval": [0.0, 0.02]}
        return {"each": each, "mean": mean, "interval": [0.0, 0.1], "over_random": over}

    rows = {name: {"loss": measure(loss), "pixels": measure(1 - loss)} for name, loss in losses.items()}
    settings = {"k": 50, "images": 1000, "queries": [f"drawn-{n}" for n in range(8)]}
    return {"study": "leave_k_out", "settings": settings, "baseline": "random", "rows": rows}


def test_leave_k_out_is_held_against_the_best_rival_query_by_query():
    report = leave_k_out(forward_inf=0.3, das=0.2, random=0.1)
    report["rows"]["forward_inf"]["loss"]["each"] = [0.3, 0.1, 0.5]
    report["rows"]["das"]["loss"]["each"] = [0.2, 0.1, 0.3]
    # differences of 100, 0 and 200: a mean of 100 with a half width of 4.303 (t of two degrees) · 100 ⁄ √3
    assert "**met** (mean difference to `das` over queries: 100.0 [-148.4, 348.4])" in summary.as_markdown([report])


def goals(*reports: dict[str, object]) -> list[str]:
    """What is said of goals, in order."""
    return re.findall(r"(\*\*met|\*\*not met|not decided yet)", summary.as_markdown(reports))


def test_a_goal_is_met_by_its_figure_only_where_as_much_was_asked_as_it_is_set_for():
    met, missed, undecided = "**met", "**not met", "not decided yet"
    assert goals(*(report for report in REPORTS if report["study"] == "lds")) == [missed]  # trak is above
    assert goals(lds("das", 32.0), lds("forward_inf", 44.0, reference_queries=29)) == [met]
    assert goals(lds("das", 32.0)) == []
    assert goals(lds("forward_inf", 44.0, reference_queries=29)) == [undecided]  # above whom?
    small = lds("forward_inf", 44.0, reference_queries=29, subsets=63)
    assert goals(lds("das", 32.0), small) == [undecided]
    small = json.loads(json.dumps(small | lds("forward_inf", 44.0, reference_queries=29)).replace("170", "169"))
    assert goals(lds("das", 32.0), small) == [undecided]
    ours, rival = customisation("forward_inf", 0.93), customisation("similarity", 0.8)
    assert goals(ours, rival) == [met, met]
    assert goals(ours, customisation("similarity", 0.93)) == [met, missed]
    assert goals(customisation("forward_inf", 0.89), rival) == [missed, met]
    few = json.loads(json.dumps(ours).replace('"cases": 12', '"cases": 11'))
    assert goals(few, rival) == [undecided, undecided]
    for_choosing = [report | {"groups": report["groups"][:1]} for report in (ours, rival)]
    assert goals(*for_choosing) == [undecided, undecided]
    assert "Cases of the choosing part, 2 pictures each" in summary.as_markdown(for_choosing)
    assert goals(leave_k_out(forward_inf=0.3, das=0.2, random=0.1)) == [met, missed]
    seven = leave_k_out(forward_inf=0.3, das=0.2, random=0.1)
    seven["settings"]["queries"].pop()
    assert goals(seven) == [undecided, undecided]
    assert goals(leave_k_out(das=0.2, random=0.1)) == []
    assert goals(leave_k_out(forward_inf=0.3)) == [undecided, undecided]
    assert goals(CALIBRATION) == [undecided, met]
    asked = json.loads(json.dumps(CALIBRATION).replace('"queries": 60', '"queries": 400'))
    assert goals(asked) == [met, met]
    asked["false_discovery"][-1]["share"] = 0.11
    asked["detection"]["share"] = 0.89
    assert goals(asked) == [missed, missed]
    asked["detection"]["queries"] = 39
    assert goals(asked) == [missed, undecided]


def test_a_method_is_named_with_what_is_not_as_usual():
    def name(method: str, settings: list[str] | None = None, **others: object) -> str:
        return label_of(of_method(method) | {"method": settings_of(method_from(method, settings))} | others)

    assert name("forward_inf", reference_queries=29) == "forward_inf"
    assert name("forward_inf", reference_queries=0) == "forward_inf (without a null)"
    assert name("das", reference_queries=0) == "das"
    assert name("das", reference_queries=29) == "das (null of 29 pictures)"
    assert name("similarity", ["space=latents"]) == "similarity (space latents)"
    assert name("forward_inf", tunable="attention", reference_queries=29) == "forward_inf (moving attention)"


def test_the_command_writes_tables_and_plots_beside_the_reports(tmp_path: Path):
    done = CliRunner().invoke(app, ["study", "report", "--reports", str(write(tmp_path, REPORTS))])
    assert done.exit_code == 0, done.output
    assert done.stdout.rstrip("\n") == summary.as_markdown(REPORTS).rstrip("\n")
    tables = (tmp_path / "figures.md").read_text()
    for name in ("recall.svg", "lds.svg", "calibration.svg"):
        assert f"]({name})" in tables
        assert ElementTree.parse(tmp_path / name).getroot().tag.endswith("svg")
    before = (tmp_path / "lds.svg").read_bytes()
    CliRunner().invoke(app, ["study", "report", "--reports", str(tmp_path)])
    assert (tmp_path / "lds.svg").read_bytes() == before  # the same figures, the same file


def test_the_evidence_page_and_the_app_tell_what_the_shipped_reports_say():
    shipped = ASSETS / "studies"
    reports = read_reports(shipped)
    page = (ASSETS.parent / "docs/evidence.md").read_text(encoding="utf-8")
    told = page.partition("<!-- what `forwardinf study report` prints -->\n")[2].partition("<!-- end of it -->")[0]
    assert told.strip() == summary.as_markdown(reports).strip()
    drawn = {path.name for path in shipped.glob("*.svg")}
    assert (shipped / summary.TABLES).read_text(encoding="utf-8") == summary.as_markdown(reports, drawn)


def test_a_folder_without_reports_and_a_file_that_is_none_are_refused(tmp_path: Path):
    with pytest.raises(MissingAsset, match="no reports of studies"):
        read_reports(tmp_path)
    (tmp_path / "other.json").write_text("[1, 2]")
    with pytest.raises(DamagedAsset, match=r"other\.json"):
        read_reports(tmp_path)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, object]]]:
    """What a suite asks of each study, none of which is run."""
    calls: list[tuple[str, dict[str, object]]] = []
    for name in (
        "lab",
        "cases",
        "self_retrieval",
        "calibration",
        "lds",
        "customisation",
        "steadiness",
        "leave_k_out",
        "report",
    ):
        monkeypatch.setattr(suite, name, lambda *_, _name=name, **options: calls.append((_name, options)))
    return calls


def test_the_whole_suite_asks_every_method_the_same_and_keeps_each_report(asked, tmp_path: Path):
    suite.everything(reports=tmp_path, work=tmp_path / "work")
    by_study = {name: [options for called, options in asked if called == name] for name, _ in asked}
    assert [name for name, _ in asked][:2] == ["lab", "cases"]
    assert [name for name, _ in asked][-1] == "report"
    for name in ("lds", "customisation"):
        methods = [method_from(options["method"], options["setting"]) for options in by_study[name]]
        assert {settings_of(m)["name"] for m in methods} >= {"forward_inf", "das", "dtrak", "trak", "tracin", "mucs"}
        same = [{k: v for k, v in o.items() if k not in ("method", "setting", "out")} for o in by_study[name]]
        assert all(options == same[0] for options in same)
    assert {options["part"] for options in by_study["customisation"]} == {"reported"}  # what ships
    retrieved_by = [options["method"] for options in by_study["self_retrieval"]]
    assert retrieved_by == ["forward_inf", "similarity", "similarity", "similarity"]
    reports = [options["out"] for _, options in asked if "out" in options]
    assert len(set(reports)) == len(reports)
    assert "similarity:space=centred latents" in by_study["leave_k_out"][0]["method"]


def test_the_quick_suite_touches_every_study_that_trains_nothing(asked, tmp_path: Path):
    suite.quick(reports=tmp_path, work=tmp_path / "work")
    assert {name for name, _ in asked} == {"self_retrieval", "calibration", "lds", "customisation", "report"}
    assert all(options["journal"] == tmp_path for name, options in asked if name in ("calibration", "self_retrieval"))


def test_every_method_is_tuned_by_as_many_settings_on_the_queries_for_choosing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert len({len(tried) for tried in suite.TRIED.values()}) == 1
    asked = []

    def scored(out: Path, **options: object) -> None:
        asked.append(options)
        assert options["part"] == "choosing"
        out.write_text(json.dumps(lds("das", 20.0 + len(asked))))

    monkeypatch.setattr(suite, "lds", scored)
    suite.tune(reports=tmp_path, work=tmp_path / "work")
    assert [options["method"] for options in asked] == [name for name, tried in suite.TRIED.items() for _ in tried]
    place = 1 + [options["setting"] for options in asked if options["method"] == "das"].index(["damping=1"])
    first = [options["method"] for options in asked].index("das")
    table = capsys.readouterr().out
    assert f"das            {20.0 + first + place}  damping=1" in table
    suite.tune(method=["das"], reports=tmp_path, work=tmp_path / "work")  # whatever lies there may be of another lab
    assert [options["setting"] for options in asked[-5:]] == [list(setting) for setting in suite.TRIED["das"]]
    assert {options["work"] for options in asked} == {tmp_path / "work"}
    with pytest.raises(InvalidRequest, match="forward_inf, plain"):
        suite.tune(method=["random"], reports=tmp_path, work=tmp_path)
