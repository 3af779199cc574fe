"""What a person is told while a RayService comes up: straight on, each thing once, never nothing for long. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rayproxy.checkpoint.stages import STAGES, Observed, reached
from rayproxy.checkpoint.troubles import detail, failure

_REMINDER = 30.0  # s without news, after which the last one is told again
_PATIENCE = 5.0  # s between two lines that differ in what is seen alone


@dataclass(frozen=True, slots=True)
class Progress:
    """Say how many of STAGES are reached, what is seen beside that, and why it is over, if it is."""

    reached: int
    detail: str = ""
    failure: str = ""


def progress(seen: Observed) -> Progress:
    """Return what one look shows."""
    failed = failure(seen)
    return Progress(0, failure=failed) if failed else Progress(reached(seen), detail(seen))


@dataclass(frozen=True, slots=True)
class Story:
    """Hold what was told last, and when, of a way that leads forward alone.

    The goal, and a failure as well, has to hold for `settle` seconds: of a running application that is changed in
    place, KubeRay says that it has seen the change 2 s before it says that the old one runs no more, or has failed no
    more (recorded with 1.7).
    """

    goal: int
    settle: float = 0.0
    told: Progress = Progress(-1)
    told_at: float = 0.0
    holds_since: float | None = None
    fails_since: float | None = None
    failure: str = ""  # why it is over

    @property
    def over(self) -> bool:
        """Tell whether the goal was reached, and was told."""
        return self.told.reached >= self.goal

    def hear(self, now: Progress, seconds: float) -> tuple[Story, str]:
        """Return the story after one more look, and the line to tell, "" for none."""
        holds = _since(self.holds_since, seconds) if now.reached >= self.goal else None
        fails = _since(self.fails_since, seconds) if now.failure else None
        story = replace(self, holds_since=holds, fails_since=fails)
        if self._has_settled(fails, seconds):
            return replace(story, failure=now.failure), ""
        short_of_it = max(self.told.reached, min(now.reached, self.goal - 1))
        news = Progress(self.goal if self._has_settled(holds, seconds) else short_of_it, now.detail)
        if not self._worth_telling(news, seconds):
            return story, ""
        return replace(story, told=news, told_at=seconds), _line(news, self.goal, seconds)

    def _has_settled(self, since: float | None, seconds: float) -> bool:
        return since is not None and seconds - since >= self.settle

    def _worth_telling(self, news: Progress, seconds: float) -> bool:
        since = seconds - self.told_at
        return news.reached > self.told.reached or since >= (_REMINDER if news == self.told else _PATIENCE)


def _since(before: float | None, seconds: float) -> float:
    return seconds if before is None else before


def _line(now: Progress, goal: int, seconds: float) -> str:
    stage = STAGES[now.reached - 1] if now.reached else "applied"
    waiting = f", waiting for '{STAGES[now.reached]}'" if now.reached < goal else ""
    detail = f": {now.detail}" if now.detail and now.reached < goal else ""
    return f"[{now.reached}/{goal}] {stage} after {seconds:.0f} s{waiting}{detail}"
