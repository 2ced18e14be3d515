"""How XLA uses this machine; to be called before jax is imported. What the user has set in the environment stays."""

import os
import pathlib


def prepare(num_devices: int = 1) -> None:
    """Keeps compiled programs for the next run, and takes one XLA thread, or as many virtual CPU devices as asked for.

    Training steps here are many and small: on 2 cores XLA's second thread makes them slower, and the core is of more
    use to another run. `NPROC` is what XLA reads at its start. It does not pay where single operations are large: a
    big model's evaluation, or steps on whole tables of a million rows. Virtual CPU devices wait for each other, and
    with fewer threads than twice their number they can wait for ever; they show that a program is right on several
    devices, never that it is fast. Accelerators know neither.
    """
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "jaxrec" / "xla"
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
    if num_devices == 1:
        os.environ.setdefault("NPROC", "1")
    else:
        os.environ.setdefault("NPROC", str(2 * num_devices))
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count={num_devices}".strip()
