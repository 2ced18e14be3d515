"""What every test runs under, set before anything imports JAX: four CPU devices, checked types, a compilation cache.

Most of the time goes into compiling programs that run once, so XLA compiles them fast instead of well: a third of the
CPU time, for other roundings. `XLA_FLAGS= python -m pytest` tests the code that XLA makes for users.
"""

import gc
import importlib.metadata
import os
import pathlib
import sys

import jaxtyping
import pytest

COMPILE_FAST = (
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_use_fusion_emitters=false",
    "--xla_cpu_parallel_codegen_split_count=1",
)
CACHE = pathlib.Path(__file__).parents[1] / ".jax_cache"

# In the environment, so that the processes which a test starts have them too.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "4"
# Steps queued on four devices can starve a pool of four threads, XLA's choice on few cores: all wait in an all-reduce.
os.environ["NPROC"] = "8"
if importlib.metadata.version("jaxlib").startswith("0.10."):  # XLA ends a process that gives it a flag it does not know
    os.environ.setdefault("XLA_FLAGS", " ".join(COMPILE_FAST))
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(CACHE)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
if sys.dont_write_bytecode:  # as in many containers: each process would compile all its libraries anew, for 5 seconds
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(CACHE / "bytecode")

# As for pyright, an int is a float.
jaxtyping.install_import_hook("jaxrec", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")


def pytest_configure(config: pytest.Config) -> None:
    """Lets a cache entry that another process is writing, or was killed at, be what JAX takes it for: a miss."""
    warning = "Error (reading|writing) persistent compilation cache entry"
    config.addinivalue_line("filterwarnings", f"ignore:{warning}:UserWarning")


def pytest_collection_finish() -> None:
    """Tracing makes much garbage; a million objects of modules, looked through with it each time, cost 7 % of a run."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


@pytest.fixture(scope="session")
def data_dir() -> pathlib.Path:
    """The folder of data sets, `$JAXREC_DATA`."""
    folder = os.environ.get("JAXREC_DATA")
    if not folder:
        pytest.skip("JAXREC_DATA, the folder of data sets, is not set")
    return pathlib.Path(folder)
