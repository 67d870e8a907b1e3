"""What an encode job did."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Refusal:
    """A video that was not stored, or not whole, and why."""

    video_id: str
    file_name: str
    reason: str


@dataclass(slots=True)
class EncodeReport:
    """What the job did.

    Attributes:
        clips_embedded: that went through the model, whatever became of their video.
        clips_written: newly stored.
        clips_skipped: stored already, by digest; not decoded.
        clips_blank: newly stored clips without a picture (black, one colour, a still frame): no hits, no vote.
        videos_written: with at least one new clip.
        videos_updated: whose label, tags or patient changed, vectors untouched.
        refused: not stored, with the reason.
        salvaged: damaged, and stored up to the damage only.
        same_content: video ids that share one file's content, those that were stored before included; each has its own
            vote and hit.
        seconds: whole job, and of it until the first video was begun (opening the store, loading a bed detector), in
            the model, waiting for frames, and committing.
        clips_per_s_at_most: what the device's rate in matrix products would allow; 0 where it was not measured.
    """

    clips_embedded: int = 0
    clips_written: int = 0
    clips_skipped: int = 0
    clips_blank: int = 0
    videos_written: int = 0
    videos_updated: int = 0
    refused: list[Refusal] = field(default_factory=list)
    salvaged: list[Refusal] = field(default_factory=list)
    same_content: list[tuple[str, ...]] = field(default_factory=list)
    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("starting", "model", "waiting", "committing", "total"), 0.0)
    )
    clips_per_s_at_most: float = 0.0

    def where_time_goes(self) -> str:
        """Clips a second, and what the time went into, in words."""
        total = self.seconds["total"]
        if not total or not self.clips_embedded:
            return ""
        share = {name: seconds / total for name, seconds in self.seconds.items()}
        words = f"{self.clips_embedded / total:.2f} clips/s: {share['model']:.0%} in the model"
        if self.seconds["model"] and self.clips_per_s_at_most:
            reached = self.clips_embedded / self.seconds["model"] / self.clips_per_s_at_most
            words += f" (at {reached:.0%} of the hardware's limit)"
        words += f", {share['waiting']:.0%} waiting for frames, {share['committing']:.0%} committing"
        return f"{words}, {share['starting']:.0%} starting"
