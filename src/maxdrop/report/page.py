"""The page: facts and charts in one template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from maxdrop.data.trace import Trial
from maxdrop.report.charts import ACCENT, INK, LINE, MOST_BARS, MUTED, drop_chart, sensitivity_chart
from maxdrop.report.facts import Facts, describe, flat_settings, read_facts


def write_report(folder: str | Path) -> Path:
    """Make report.html from the plan and the trace in `folder`, and return its path.

    An unfinished search gives a page too: its trials so far.

    Raises:
        TraceError: there is no trace in the folder, or it is damaged.
        PlanError: the plan is of another version.
    """
    target = Path(folder) / "report.html"
    part = target.with_suffix(".html.part")
    part.write_text(render(read_facts(Path(folder))), encoding="utf-8")
    part.replace(target)
    return target


def render(facts: Facts) -> str:
    """The page as text."""
    environment = Environment(
        loader=PackageLoader("maxdrop.report", ""), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("page.html.j2").render(
        facts=facts,
        headline=_headline(facts),
        remarks=facts.measured.get("remarks", ()),
        cards=_cards(facts),
        drops=Markup(drop_chart(facts)),
        sensitivity=Markup(sensitivity_chart(facts)) if facts.sensitivity else None,
        most_bars=MOST_BARS,
        trials=[_trial_row(facts, trial) for trial in facts.trials],
        float_ops=_float_rows(facts),
        settings=flat_settings(facts.header),
        colours={"accent": ACCENT, "ink": INK, "line": LINE, "muted": MUTED},
    )


def _headline(facts: Facts) -> tuple[str, str]:
    """The verdict, and one sentence about it."""
    if facts.outcome == "unfinished":
        return "Not finished yet", "The search has written no plan yet; these are its trials so far."
    why = str(facts.measured.get("stop_reason", ""))
    if facts.outcome == "reached":
        return (
            "Reached",
            f"An int8 model within the limit was found: {why}." if why else "The result is within the limit.",
        )
    return "Not reached", f"The result is the float model: {why}." if why else "The result is the float model."


def _cards(facts: Facts) -> list[tuple[str, str, tuple[str, ...]]]:
    """(label, value, remarks) for the row of numbers on top."""
    cards: list[tuple[str, str, tuple[str, ...]]] = []
    if facts.plan is not None:
        cards += _drop_cards(facts)
    if facts.measured:
        cards.append(_speed_card(facts.measured))
    if facts.plan is not None:
        int8, share = len(facts.plan.int8_ops), facts.measured.get("int8_macs_share")
        remark = () if share is None else (f"{float(share):.1%} of the multiply-accumulates",)
        cards.append(("int8 ops", f"{int8} of {int8 + len(facts.float_ops)}", remark))
    seconds = sum(trial.seconds for trial in facts.trials)
    cards.append(("trials", str(len(facts.trials)), (f"{seconds:.0f} s of building and scoring",)))
    return cards


def _drop_cards(facts: Facts) -> list[tuple[str, str, tuple[str, ...]]]:
    floating = facts.float_trial
    chosen = facts.chosen or floating
    if floating is None or chosen is None or chosen.drop is None:
        return []
    interval, unseen = facts.measured.get("drop_interval"), facts.measured.get("holdout_drop")
    limit = f"limit {facts.max_drop:g}, {facts.drop_type}"
    span = () if interval is None else (f"95 %: {interval[0]:.2g} to {interval[1]:.2g}",)
    held = () if unseen is None else (f"{unseen:.2g} on items that the search did not see",)
    return [
        ("drop", f"{chosen.drop:.4g}", (limit, *span, *held)),
        (next(iter(chosen.metrics or {"metric": 0})), f"{chosen.metric:.5g}", (f"float {floating.metric:.5g}",)),
    ]


def _speed_card(measured: dict[str, Any]) -> tuple[str, str, tuple[str, ...]]:
    low, high = measured["speedup_interval"]
    times = f"{measured['seconds'] * 1e3:.3g} ms, float {measured['float_seconds'] * 1e3:.3g} ms"
    return "speed", f"{measured['speedup']:.2f}x", (times, f"95 %: {low:.2f}x to {high:.2f}x")


def _trial_row(facts: Facts, trial: Trial) -> dict[str, str | bool]:
    verdicts = {"failed": "failed", "rejected": "above", "complete": "within" if facts.passes(trial) else "above"}
    upper = "" if trial.upper is None else f", at most {trial.upper:.4g}"
    return {
        "number": str(trial.number),
        "role": trial.role,
        "what": describe(trial),
        "metric": _metric_text(trial),
        "drop": "" if trial.drop is None else f"{trial.drop:.4g}{upper}",
        "verdict": verdicts[trial.state],
        "remark": trial.error or (trial.evidence.text if trial.evidence is not None else ""),
        "seconds": f"{trial.seconds:.1f}",
        "chosen": trial is facts.chosen,
    }


def _metric_text(trial: Trial) -> str:
    if trial.metrics:
        return ", ".join(f"{name} {value:.5g}" for name, value in trial.metrics.items())
    return "" if trial.metric is None else f"{trial.metric:.6g}"


def _float_rows(facts: Facts) -> list[tuple[str, str, bool]]:
    """(op, reason, whether for accuracy), those for accuracy first."""
    if facts.plan is None:
        return []
    rows = [(op, reason, op in facts.reverted) for op, reason in facts.plan.float_ops.items()]
    return sorted(rows, key=lambda row: not row[2])
