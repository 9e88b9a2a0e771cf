"""A plan from its file through the command: what is compiled, what is wrong with it, and what is shipped."""

from pathlib import Path
from typing import Any

import pytest

from alikit.kernels import aot, binary, findings, plan
from alikit.kernels.launch import Launch
from tests.kernels.gpu.conftest import Sizes, matmul

pytest.importorskip("triton", reason="Triton (Linux only) is not installed")
pytestmark = pytest.mark.usefixtures("own_cache")


def steps() -> dict[plan.Step, list[Launch]]:
    few, many = matmul("bf16", 64), matmul("bf16", 32)
    return {
        plan.Step("b", "bf16", 90): [few, many, few._replace(grid=(7, 1, 1))],
        plan.Step("a", "bf16", 80): [few],
        plan.Step("b", "bf16", 80): [
            few._replace(constants=(("G", Sizes(64, "bf16")), ("BN", (1, 2.5, "x", None)))),
            few,
        ],
    }


def test_a_plan_survives_its_file(named: None) -> None:
    text = plan.dumps(steps())
    found = plan.loads(text)
    assert plan.dumps(found) == text
    assert plan.dumps(dict(reversed(steps().items()))) == text
    assert {step: len(launches) for step, launches in found.items()} == {s: min(2, len(v)) for s, v in steps().items()}
    (launch,) = found[plan.Step("a", "bf16", 80)]
    assert launch == matmul("bf16", 64)
    assert len(aot.distinct(found)) == 4


def test_real_names_are_found_again() -> None:
    assert plan._find(plan._name(Launch)) is Launch


@pytest.fixture
def plan_file(tmp_path: Path, named: None) -> Path:
    good, bad = matmul("bf16", 64), matmul("bf16", 64, ("a_ptr",))
    path = tmp_path / "plan.json"
    path.write_text(plan.dumps({plan.Step("good", "bf16", 80): [good], plan.Step("bad", "bf16", 80): [good, bad]}))
    return path


def test_the_command_names_what_is_wrong(plan_file: Path, capsys: Any) -> None:
    assert aot.main(["--plan", str(plan_file), "--jobs", "1"]) == 1
    text = capsys.readouterr().out
    assert "2 kernels, 1 with faults" in text
    assert "! conv_like" in text
    assert aot.main(["--plan", str(plan_file), "--jobs", "1", "--preset", "good", "--arch", "sm_80"]) == 0
    assert "unaligned:a_ptr" not in capsys.readouterr().out
    assert aot.main(["--plan", str(plan_file), "--jobs", "1", "--arch", "sm_90"]) == 2
    assert aot.main(["--plan", str(plan_file) + "?"]) == 2


def test_write_compiles_only_what_the_file_does_not_know(
    plan_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(findings, "FILE", tmp_path / "findings.json")
    command = ["--plan", str(plan_file), "--jobs", "1", "--write"]
    assert aot.main([*command, "--preset", "good"]) == 0
    before = findings.loads(findings.FILE.read_text())
    assert before.complete == ["good bf16"]
    assert len(before.code) == 1
    compiled = []
    monkeypatch.setattr(
        aot, "examine", lambda items, arch, examine=aot.examine: compiled.extend(items) or examine(items, arch)
    )
    capsys.readouterr()
    assert aot.main(command) == 1
    assert [record.unaligned for record in compiled] == [("a_ptr",)]
    text = capsys.readouterr().out
    assert "| bad bf16 | 2 | 2 | 1 |\n| good bf16 | 1 | 1 | 0 |" in text
    assert "all code of bad bf16, good bf16" in text
    after = findings.loads(findings.FILE.read_text())
    assert after.code.items() > before.code.items()
    assert aot.main(command) == 1
    assert len(compiled) == 1
    assert aot.main(command[:-1]) == 1, "without --write all is compiled, or taken from the cache"
    assert len(compiled) == 3
    monkeypatch.setattr(aot, "ship", lambda todo: {80: 10**7})
    assert aot.main([*command, "--ship"]) == 1
    assert len(compiled) == 5
    assert "sm_80: 10.00 MB" in capsys.readouterr().out
    findings.FILE.write_text(findings.dumps(after._replace(triton="2")))
    assert aot.known() == findings.Findings(aot.launch.triton_version(), [], {}), "another compiler's"


def test_what_is_shipped_is_found_by_its_key(plan_file: Path, tmp_path: Path) -> None:
    todo = aot.distinct(plan.loads(plan_file.read_text()))
    sizes = aot.ship(todo, tmp_path / "cubins")
    assert set(sizes) == {80}
    for record, arch in todo:
        found = binary.shipped(aot.launch_key(record, arch), arch, tmp_path / "cubins")
        assert found is not None
        assert found == aot.launch.compiled(record, arch, lines=False)
    before = (tmp_path / "cubins" / "sm_80.zip").read_bytes()
    aot.ship(reversed(todo), tmp_path / "cubins")
    assert (tmp_path / "cubins" / "sm_80.zip").read_bytes() == before
