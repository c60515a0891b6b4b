"""Processes that measure shards side by side: of this machine, or of a Ray cluster. One that dies is replaced.

A worker makes its own model and uses a fixed number of threads, so that what it finds does not depend on how many
others there are.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from typing import Any

import torch

from ..extras import need
from .engine import Job, Make, Measure, SurveyError
from .shard import Options, measure
from .subject import Subject

__all__ = ["in_processes", "on_ray"]

RETRIES = 3  # times in a row that workers may die without a shard being done
_mine: dict[Any, Subject] = {}  # the model of this worker


def in_processes(make: Make, options: Options, processes: int, threads: int = 1) -> Measure:
    """Local processes. `make` is a function of a module (or a `functools.partial` of one) that gives the model."""

    def run(jobs: Iterator[Job]) -> Iterator[tuple[Job, bytes]]:
        waiting: dict[Future[bytes], Job] = {}
        again: list[Job] = []
        died = 0
        pool = _pool(make, processes, threads)
        try:
            while True:
                while len(waiting) < 2 * processes:
                    job = again.pop() if again else next(jobs, None)
                    if job is None:
                        break
                    waiting[pool.submit(_work, make, options, job)] = job
                if not waiting:
                    return
                try:
                    for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                        found = future.result()
                        died = 0
                        yield waiting.pop(future), found
                except BrokenProcessPool:
                    died += 1
                    if died > RETRIES:
                        raise SurveyError(
                            f"workers died {died} times in a row; perhaps there is too little memory for {processes} "
                            "processes. Take fewer: --processes 1"
                        ) from None
                    again += [job for future, job in waiting.items() if not _is_done(future)]
                    waiting = {future: job for future, job in waiting.items() if _is_done(future)}
                    _end(pool)
                    pool = _pool(make, processes, threads)
        finally:
            _end(pool)

    return run


def _is_done(future: Future[bytes]) -> bool:
    return future.done() and future.exception() is None


def _pool(make: Make, processes: int, threads: int) -> ProcessPoolExecutor:
    spawned = multiprocessing.get_context("spawn")  # a forked process cannot use torch's threads
    return ProcessPoolExecutor(processes, spawned, _begin, (threads,))


def _end(pool: ProcessPoolExecutor) -> None:
    """Do not wait for shards under way."""
    processes = list((getattr(pool, "_processes", None) or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
    for process in processes:
        process.join()


def _begin(threads: int) -> None:
    """In a worker: Ctrl-C is for the one who started it, with whom it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    threading.Thread(target=_end_with_parent, name="foveate-parent", daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def _work(make: Make, options: Options, job: Job) -> bytes:
    if "subject" not in _mine:
        _mine["subject"] = make()
    return measure(_mine["subject"], job.texts, options).to_bytes()


def on_ray(make: Make, options: Options, processes: int, threads: int = 1) -> Measure:
    """Tasks of a Ray cluster: the one that this program is connected to, or that its address (`RAY_ADDRESS`) names,
    else a local one of `processes` workers. Ray repeats tasks whose worker died.

    Raises:
        MissingExtraError: Ray is not installed.
    """
    ray = need("ray", "ray")

    def run(jobs: Iterator[Job]) -> Iterator[tuple[Job, bytes]]:
        mine = not ray.is_initialized()
        if mine:
            local = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": processes * threads}
            ray.init(include_dashboard=False, log_to_driver=False, logging_level="error", **local)
        try:
            task = ray.remote(num_cpus=threads, max_retries=RETRIES)(_work_on_ray)
            waiting: dict[Any, Job] = {}
            while True:
                while len(waiting) < 2 * processes:
                    job = next(jobs, None)
                    if job is None:
                        break
                    waiting[task.remote(make, options, job, threads)] = job
                if not waiting:
                    return
                for done in ray.wait(list(waiting))[0]:
                    yield waiting.pop(done), _result(ray, done)
        finally:
            if mine:
                ray.shutdown()

    return run


def _result(ray: Any, task: Any) -> bytes:
    try:
        found: bytes = ray.get(task)
    except ray.exceptions.WorkerCrashedError:
        raise SurveyError(f"a worker of Ray died {RETRIES + 1} times on one shard") from None
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    return found


def _work_on_ray(make: Make, options: Options, job: Job, threads: int) -> bytes:
    torch.set_num_threads(threads)
    return _work(make, options, job)
