"""Evaluates models, or files of predictions, on data sets."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from connectors.files.writing import write_json
from models.protocols import ConceptDetector, ConceptTracker
from pipeline.errors import ConfigError
from pipeline.lab.data.datasets.clips import ClipSet, Masklet
from pipeline.lab.data.datasets.items import read_object
from pipeline.lab.data.datasets.pictures import (
    FoundShape,
    PictureQuestion,
    read_answers,
    read_questions,
)
from pipeline.lab.data.datasets.pictures import to_json as answers_to_json
from pipeline.lab.data.datasets.problems import OnBad, Problems
from pipeline.lab.data.datasets.vos import (
    DAVIS_2017,
    MOSE,
    SA_V,
    ObjectClip,
    ObjectMasks,
    list_clips,
    list_sav_training,
    read_masks,
    write_masks,
)
from pipeline.lab.data.datasets.ytvis import read_clips, read_predictions
from pipeline.lab.data.datasets.ytvis import to_json as masklets_to_json
from pipeline.lab.evaluation.clip_scores import score_masklets
from pipeline.lab.evaluation.following import Stopwatch
from pipeline.lab.evaluation.object_scores import ClipJudge, ObjectMark, object_scores
from pipeline.lab.evaluation.picture_scores import score_pictures
from pipeline.lab.evaluation.runs import (
    ObjectSession,
    OnProgress,
    TrackingRules,
    answer_questions,
    follow_objects,
    track_clips,
)
from pipeline.lab.evaluation.set_kinds import ClipSetName, SetRequest
from pipeline.lab.evaluation.set_reports import (
    SetReport,
    clip_report,
    object_report,
    picture_report,
)

OpenSession = Callable[[ObjectClip], ObjectSession]
OnTotal = Callable[[int], OnProgress]


def evaluate_picture_set(
    detector: ConceptDetector, request: SetRequest, *, title: str, on_total: OnTotal
) -> SetReport:
    """Ask a detector every question of a set.

    Args:
        detector: The model.
        request: ``root`` and ``annotations`` are needed.
        title: Name of the set.
        on_total: Told the number of pictures; what it returns is called after each.

    Raises:
        ConfigError: If the set cannot be used.
    """
    root, problems = _root(request), Problems(on_bad=request.on_bad)
    questions = read_questions(_annotations(request), problems, root=root)
    problems.settle()
    _check_any(questions, request)
    watch = Stopwatch()
    answers = answer_questions(
        detector,
        questions,
        root,
        problems,
        watch,
        on_progress=on_total(len({question.picture for question in questions})),
    )
    problems.settle()
    if request.predictions is not None:
        write_json(request.predictions, answers_to_json(answers))
    report = _picture_report(title, questions, answers)
    return _finish(report, request, problems, watch)


def evaluate_clip_set(
    tracker: ConceptTracker,
    request: SetRequest,
    rules: TrackingRules,
    *,
    title: str,
    on_total: OnTotal,
) -> SetReport:
    """Track every question of a set; arguments and errors as for :func:`evaluate_picture_set`."""
    root, problems = _root(request), Problems(on_bad=request.on_bad)
    clips = read_clips(_annotations(request)[0], problems, root=root)
    problems.settle()
    _check_any(clips.clips, request)
    watch = Stopwatch()
    on_progress = on_total(len(clips.clips))
    found = track_clips(tracker, clips, root, rules, problems, watch, on_progress=on_progress)
    problems.settle()
    if request.predictions is not None:
        write_json(request.predictions, masklets_to_json(found))
    return _finish(_clip_report(title, clips, found), request, problems, watch)


def evaluate_object_set(
    open_session: OpenSession, request: SetRequest, name: ClipSetName, *, on_total: OnTotal
) -> SetReport:
    """Follow every object of a set from its first mask.

    Args:
        open_session: Begins a clip.
        request: ``root`` is needed.
        name: Which set it is.
        on_total: As for :func:`evaluate_picture_set`.

    Raises:
        ConfigError: If the set cannot be used.
    """
    root, problems = _root(request), Problems(on_bad=request.on_bad)
    clips = list_object_clips(root, name, problems, split=request.split)
    problems.settle()
    _check_any(clips, request)
    watch, marks = Stopwatch(), list[ObjectMark]()
    on_progress = on_total(len(clips))
    for clip in clips:
        truth = clip.read_truth()
        problems.settle()
        judge = ClipJudge(clip=clip.name, truth=truth, counts_from_start=name is ClipSetName.DAVIS)
        for index, masks in follow_objects(open_session(clip), clip, truth, watch):
            judge.add(index, masks)
            if request.predictions is not None:
                write_masks(request.predictions, clip, index, masks)
        marks += judge.marks()
        on_progress()
    return _finish(object_report(name.value, object_scores(marks)), request, problems, watch)


def list_object_clips(
    root: Path, name: ClipSetName, problems: Problems, *, split: str
) -> list[ObjectClip]:
    """List the clips of a set whose objects are given by masks. Raises ``ConfigError``."""
    if name in (ClipSetName.SA_V_MANUAL, ClipSetName.SA_V_AUTO):
        kind = name.value.removeprefix("sa-v-")
        return list_sav_training(root, problems, kind=kind)
    layout = {ClipSetName.DAVIS: DAVIS_2017, ClipSetName.SA_V: SA_V}.get(name, MOSE)
    return list_clips(root, layout, problems, split=split)


def evaluate_files(truth: tuple[Path, ...], predictions: Path, request: SetRequest) -> SetReport:
    """Score predictions that are there already.

    Args:
        truth: An annotation file with ``videos`` or ``sequences``; one or more with ``images``; or
            a folder of object masks.
        predictions: A file in the matching form, or a folder of the same layout.
        request: ``on_bad`` and ``results`` count.

    Raises:
        ConfigError: If something cannot be read.
    """
    problems = Problems(on_bad=request.on_bad)
    if truth[0].is_dir():
        report = _score_folders(truth[0], predictions, problems)
    else:
        report = _score_json(truth, predictions, problems)
    problems.settle()
    return _finish(report, request, problems, None)


def _score_json(truth: tuple[Path, ...], predictions: Path, problems: Problems) -> SetReport:
    contents = [read_object(path) for path in truth]
    title = truth[0].stem
    if contents[0].has("videos") or contents[0].has("sequences"):
        clips = read_clips(truth[0], problems, content=contents[0])
        found = read_predictions(predictions, clips, problems)
        problems.settle()
        return _clip_report(title, clips, found)
    questions = read_questions(truth, problems, contents=contents)
    answers = read_answers(predictions, questions, problems)
    problems.settle()
    return _picture_report(title, questions, answers)


def _score_folders(truth: Path, predictions: Path, problems: Problems) -> SetReport:
    """Score PNGs against PNGs, as SA-V's evaluator does."""
    marks: list[ObjectMark] = []
    for folder in sorted(path for path in truth.iterdir() if path.is_dir()):
        answer = predictions / folder.name
        names = sorted(path.relative_to(folder) for path in folder.rglob("*.png"))
        missing = [name for name in names if not (answer / name).is_file()]
        if missing:
            problems.add(answer, f"{len(missing)} predictions", f"missing, {str(missing[0])!r}")
            continue
        stems = sorted({name.stem for name in names})
        wanted = read_masks(folder, stems, problems)
        # Predictions for frames that are not annotated are no mistake.
        found = read_masks(answer, stems, Problems(on_bad=OnBad.SKIP))
        if _sizes(wanted) != _sizes(found) and _sizes(found):
            sizes = f"{_sizes(found)} (accepted: {_sizes(wanted)})"
            problems.add(answer, "predictions", f"are of size {sizes}")
            continue
        judge = ClipJudge(clip=folder.name, truth=wanted, counts_from_start=False)
        for index in range(len(stems)):
            shown = {number: masks[index] for number, masks in found.items() if index in masks}
            judge.add(index, {number: mask.mask() for number, mask in shown.items()})
        marks += judge.marks()
    return object_report(truth.name, object_scores(marks))


def _sizes(masks: ObjectMasks) -> list[tuple[int, int]]:
    return sorted({one.size_hw for frames in masks.values() for one in frames.values()})


def _picture_report(
    title: str, questions: list[PictureQuestion], answers: list[FoundShape]
) -> SetReport:
    return picture_report(
        title,
        score_pictures(questions, answers),
        score_pictures(questions, answers, use_boxes=True),
        num_annotators=max((len(question.truths) for question in questions), default=0),
    )


def _clip_report(title: str, clips: ClipSet, found: list[Masklet]) -> SetReport:
    return clip_report(
        title, clips, score_masklets(clips, found), score_masklets(clips, found, use_boxes=True)
    )


def _finish(
    report: SetReport, request: SetRequest, problems: Problems, watch: Stopwatch | None
) -> SetReport:
    if request.results is not None:
        write_json(request.results, report.official)
    seconds = None if watch is None else watch.mean
    return replace(report, problems=(*problems.lines, *report.problems), seconds=seconds)


def _root(request: SetRequest) -> Path:
    if request.root is None or not request.root.is_dir():
        given = "is missing" if request.root is None else f"no folder {str(request.root)!r}"
        raise ConfigError([f"--root: {given} (accepted: the folder of the set)"])
    return request.root


def _annotations(request: SetRequest) -> tuple[Path, ...]:
    if not request.annotations:
        raise ConfigError(["--annotations: is missing (accepted: the set's JSON file)"])
    return request.annotations


def _check_any(items: Iterable[object], request: SetRequest) -> None:
    if not list(items):
        where = ", ".join(str(path) for path in request.annotations) or str(request.root)
        raise ConfigError([f"{where}: nothing in it can be evaluated"])
