"""Hold the operator's location template: taken when it is good, kept when a later one is not."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from rayproxy.nginx.templates import LocationTemplate, TemplateError, load_location


class TemplateChoice:
    """Return the template to use now; `check` raises TemplateError for one that nginx would refuse."""

    def __init__(self, choice: str, check: Callable[[LocationTemplate], None]) -> None:
        self._choice = choice
        self._check = check
        self._good: LocationTemplate | None = None
        self._verdicts: dict[LocationTemplate, TemplateError | None] = {}

    def __call__(self) -> tuple[LocationTemplate, tuple[str, ...]]:
        """Read it again; a bad one is a problem while a good one is known, and a TemplateError otherwise."""
        try:
            template = load_location(self._choice)
            if template != self._good and (error := self._verdict(template)):
                raise error
        except TemplateError as error:
            if self._good is None:
                raise
            return self._good, (f"{error}; the last good one is used",)
        if template != self._good:
            for gap in template.gaps:
                structlog.get_logger().warning("the location template has a gap", template=template.name, gap=gap)
        self._good = template
        return template, ()

    def _verdict(self, template: LocationTemplate) -> TemplateError | None:
        if template not in self._verdicts:
            error = None
            try:
                self._check(template)  # what else it raises says nothing about the template: it is asked again
            except TemplateError as refused:
                error = refused
            self._verdicts = {template: error}  # one is enough: it is asked for again each cycle until it changes
        return self._verdicts[template]
