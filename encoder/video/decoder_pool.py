"""Several decoders for tasks in threads, each task given the one that has its file open already, if that is idle."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from encoder.video.decoder import Decoder


class DecoderPool:
    """Decoders that are started when they are needed, and ended with the context: by then no task may use one."""

    def __init__(self, count: int, num_frames: int, size: int) -> None:
        """Take the most decoders at once, and what each is made for, see `Decoder`."""
        self._shape = num_frames, size
        self._free = threading.Semaphore(count)
        self._lock = threading.Lock()
        self._idle: list[Decoder] = []
        self._all: list[Decoder] = []
        self._interrupted = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for decoder in self._all:
            decoder.close()

    def interrupt(self) -> None:
        """Make every decoding in progress end soon, and begin none."""
        with self._lock:
            self._interrupted = True
            for decoder in self._all:
                decoder.interrupt()

    @contextmanager
    def decoder_for(self, path: Path) -> Iterator[Decoder]:
        """A decoder for one file, once one is idle."""
        with self._free:
            with self._lock:
                decoder = self._chosen(path)
            try:
                yield decoder
            finally:
                with self._lock:
                    self._idle.append(decoder)

    def _chosen(self, path: Path) -> Decoder:
        for number, decoder in enumerate(self._idle):
            if decoder.open_path == path:
                return self._idle.pop(number)
        if self._idle:
            return self._idle.pop()
        decoder = Decoder(*self._shape)
        if self._interrupted:
            decoder.interrupt()
        self._all.append(decoder)
        return decoder
