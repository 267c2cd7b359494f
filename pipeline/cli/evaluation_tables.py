"""Tables of evaluations for people."""

from rich.console import Console, Group
from rich.table import Table

from pipeline.lab.evaluation.images import ImageReport
from pipeline.lab.evaluation.report import Evaluation
from pipeline.lab.evaluation.set_reports import SetReport
from pipeline.lab.evaluation.video import VideoReport
from pipeline.lab.metrics.overlap import ConceptScores
from pipeline.lab.metrics.recovery import LONGEST_S, count_recoveries

_MOST_SHOWN = 5


def show_set_report(report: SetReport, console: Console) -> None:
    """Print a table and what was left out."""
    console.print(report.title, markup=False)
    table = Table()
    table.add_column("measure")
    table.add_column("value", justify="right")
    for name, value in report.rows:
        if value is not None:
            table.add_row(name, f"{100 * value:.1f}")
    for name, number in report.counts.items():
        table.add_row(name, str(number))
    if report.seconds is not None:
        table.add_row("ms per picture", f"{1000 * report.seconds:.0f}")
    console.print(table)
    for problem in report.problems[:_MOST_SHOWN]:
        console.print(f"left out: {problem}", style="yellow", markup=False)
    if len(report.problems) > _MOST_SHOWN:
        console.print(f"and {len(report.problems) - _MOST_SHOWN} more", style="yellow")


def show_evaluation(evaluation: Evaluation, console: Console) -> None:
    """Print tables."""
    report = evaluation.report
    tables = _image_tables(report) if isinstance(report, ImageReport) else _video_tables(report)
    where = "" if evaluation.checkpoint is None else f", {evaluation.checkpoint}"
    console.print(f"[bold]{evaluation.model}[/bold]{where}")
    console.print(Group(*tables))


def _image_tables(report: ImageReport) -> list[Table]:
    settings, scores = report.settings, report.scores
    head = Table(
        title=f"{settings.num_pictures} held-out pictures of the {settings.world.value} world, "
        f"{settings.width} x {settings.height}, {scores.num_questions} questions",
        title_justify="left",
    )
    for column in ("measure", "50-95", "@ .50", "@ .75"):
        head.add_column(column, justify="left" if column == "measure" else "right")
    head.add_row("cgF1", *_percent(scores.cgf1, scores.cgf1_50, scores.cgf1_75))
    head.add_row(
        "positive micro F1",
        *_percent(
            scores.positive_micro_f1, scores.positive_micro_f1_50, scores.positive_micro_f1_75
        ),
    )
    if report.phrase_ap is not None:
        ap = report.phrase_ap
        head.add_row("mask AP of all phrases", *_percent(ap.ap, ap.ap_50, ap.ap_75))
    head.add_row("IL_MCC", *_percent(scores.il_mcc))
    head.add_row("mean IoU of matches", *_percent(scores.mean_iou))
    head.add_row("ms per picture", f"{report.seconds_per_picture * 1000:.0f}")
    return [
        head,
        _group_table("concept", report.by_concept),
        _group_table("phrase is", report.by_phrasing),
    ]


def _group_table(title: str, groups: dict[str, ConceptScores]) -> Table:
    table = Table()
    table.add_column(title)
    for column in ("asked", "there", "pmF1", "pmF1 @ .50", "said there", "false alarms"):
        table.add_column(column, justify="right")
    for name, scores in groups.items():
        is_there, is_absent = scores.num_positive > 0, scores.num_positive < scores.num_questions
        found = _percent(scores.positive_micro_f1, scores.positive_micro_f1_50, scores.il_recall)
        table.add_row(
            name.replace("_", " "),
            str(scores.num_questions),
            str(scores.num_positive),
            *(found if is_there else ("", "", "")),
            *(_percent(scores.il_fpr) if is_absent else ("",)),
        )
    return table


def _video_tables(report: VideoReport) -> list[Table]:
    settings, counts, scores = report.settings, report.counts, report.scores
    head = Table(
        title=f"{settings.num_clips} held-out clips of the {settings.world.value} world, "
        f"{settings.width} x {settings.height}, {report.num_frames} frames, "
        f"{len(report.objects)} objects",
        title_justify="left",
    )
    head.add_column("measure")
    head.add_column("value", justify="right")
    for name, value in (
        ("J&F", report.j_and_f),
        ("J", report.j),
        ("F", report.f),
        ("cgF1 of masklets", scores.cgf1),
        ("cgF1 of masklets @ .50", scores.cgf1_50),
        ("pHOTA", report.hota.hota),
        ("pDetA", report.hota.det_a),
        ("pAssA", report.hota.ass_a),
        ("TETA", report.teta.teta if report.teta else 0.0),
        ("IDF1", report.identity.idf1),
    ):
        head.add_row(name, *_percent(value))
    head.add_row("masks missed", f"{counts.missed_masks} of {counts.truth_masks}")
    head.add_row("false masks", str(counts.false_masks))
    head.add_row("identity switches", str(counts.id_switches))
    recovered = count_recoveries(report.recoveries)
    share = f"{recovered.recovered} of {recovered.judged}"
    head.add_row(f"recovered after up to {LONGEST_S:g} s hidden", share)
    head.add_row("false tracks", f"{counts.false_tracks} of {counts.tracks}")
    head.add_row("ms per frame", f"{report.seconds_per_frame * 1000:.0f}")
    table = Table()
    for column in ("concept", "objects", "J&F"):
        table.add_column(column, justify="left" if column == "concept" else "right")
    for concept, j_and_f in report.by_concept.items():
        number = sum(one.concept == concept for one in report.objects)
        table.add_row(concept, str(number), *_percent(j_and_f))
    return [head, table]


def _percent(*values: float) -> tuple[str, ...]:
    return tuple(f"{100 * value:.1f}" for value in values)
