"""What tests of the training floor share: one thread, and no GPU where there is none."""

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Keep torch to one thread: networks this small gain nothing from more, and lose much beside other processes."""
    torch.set_num_threads(1)
    # The first optimizer of a process imports torch's compiler, which takes a second that belongs to no test.
    torch.optim.AdamW([torch.zeros(1, requires_grad=True)]).step()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect tests marked `gpu` on a machine without one; elsewhere they run like any other."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked and not torch.cuda.is_available():
        config.hook.pytest_deselected(items=marked)
        items[:] = [item for item in items if item not in marked]
