"""Task `search`, a preset of `watch`: loads a site, types a query into its search box, reads the results."""

from __future__ import annotations

from pydantic import Field

from fleet.model import WebAddress
from worker.tasks import watch
from worker.tasks.contract import Context, Found, takes
from worker.tasks.items import ItemsOptions
from worker.tasks.options import Marks, Selector, TaskOptions
from worker.tasks.picture import WINDOW, Shot
from worker.tasks.steps import Step

_KEPT_ITEMS = 10


class Options(TaskOptions):
    """`[task.options]` of `search`."""

    home: WebAddress
    search_box: Selector
    query: str = Field(min_length=1)
    result_items: Selector
    click_first: tuple[Selector, ...] = ()
    """Clicked first if they exist: a cookie notice, the icon that opens the search box."""
    search_button: Selector | None = None
    """Clicked instead of pressing Enter."""
    empty: Marks = ()
    limited: Marks = ()
    refused: Marks = ()
    absent: Marks = ()
    screenshot: Shot = WINDOW

    def as_watch(self) -> watch.Options:
        """The equivalent options of `watch`."""
        button = [Step(click=self.search_button)] if self.search_button else []
        return watch.Options(
            pages=(self.home,),
            steps=(
                *(Step(click=one, optional=True) for one in self.click_first),
                Step(fill=self.search_box, text=self.query, submit=not button),
                *button,
            ),
            items=ItemsOptions(select=self.result_items, kept=_KEPT_ITEMS),
            **{name: getattr(self, name) for name in Options.model_fields.keys() & watch.Options.model_fields.keys()},
        )


@takes(Options)
def search(context: Context[Options]) -> Found:
    """Home page, query, results, screenshot."""
    options = context.options
    found = watch.watch(Context(browser=context.browser, options=options.as_watch(), stage=context.stage))
    items = found.answer.pop("items")
    texts = [one["text"] for one in items if isinstance(one, dict)] if isinstance(items, list) else []
    answer = {"query": options.query, **found.answer, "items": texts}
    return found.model_copy(update={"answer": answer})
