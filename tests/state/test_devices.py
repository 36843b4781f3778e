"""What `outlast doctor` asks of the frameworks: that all is computed, and the most memory of each device."""

from __future__ import annotations

import pytest

from outlast import state
from outlast.state import adapters


def test_a_cpu_reports_no_peak_and_is_not_waited_for() -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    state.wait_for_devices()
    assert not [name for name in state.device_peaks() if name.endswith("(torch)")]


def test_a_gpu_is_waited_for_and_reports_what_is_reserved(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    from outlast.state.torch import machine

    waited = []
    for name, value in {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "device_count": lambda: 2,
        "synchronize": waited.append,
        "get_device_name": lambda device: "Tesla T4",
        "max_memory_reserved": lambda device: 1000 + device,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    machine.wait()
    assert waited == [0, 1]
    assert machine.device_peaks() == {"cuda:0 Tesla T4": 1000, "cuda:1 Tesla T4": 1001}
    assert state.device_peaks()["cuda:1 Tesla T4 (torch)"] == 1001


def test_jax_computes_all_that_was_asked_for() -> None:
    jax = pytest.importorskip("jax")
    asked = [jax.jit(lambda x: x @ x)(jax.numpy.ones((300, 300))) for _ in range(3)]
    jax.jit(lambda x: x + 1, donate_argnums=0)(asked[0])  # where it is donated, it cannot be waited for
    state.wait_for_devices()
    assert all(array.is_ready() for array in asked[1:])
    assert any(adapter.name == "jax" for adapter in adapters.loaded())
    assert all(size > 0 for size in state.device_peaks().values())
