"""What an evaluation on held-out worlds found, as JSON values."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.lab.evaluation.images import ImageReport
from pipeline.lab.evaluation.video import VideoReport
from pipeline.lab.metrics.recovery import count_recoveries


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """One evaluation.

    Attributes:
        model: Name of the model.
        checkpoint: Its weights, if not the shipped ones.
        report: What was found.
    """

    model: str
    checkpoint: Path | None
    report: ImageReport | VideoReport

    def to_fields(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        report = self.report
        fields: dict[str, Any] = {
            "task": "images" if isinstance(report, ImageReport) else "video",
            "model": self.model,
            "checkpoint": None if self.checkpoint is None else str(self.checkpoint),
            **asdict(report),
        }
        if isinstance(report, VideoReport):
            fields["by_concept"] = report.by_concept
            fields["idf1"], fields["mota"] = report.identity.idf1, report.identity.mota
            recovered = count_recoveries(report.recoveries)
            fields["recovered"] = {"share": recovered.share, **asdict(recovered)}
        return fields
