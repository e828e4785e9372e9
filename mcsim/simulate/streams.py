"""Random streams: every draw is addressed by (seed, condition, replicate, purpose).

So no replicate depends on another.
"""

import hashlib
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint32]

PURPOSES = {"design": 0, "response": 1, "bootstrap": 2, "missing": 3, "counts": 4}
STREAMS_PER_SEED = 64


def stream(key: Words, replicate: int, purpose: str) -> np.random.Generator:
    """The one random stream of a purpose in a replicate (0: the condition itself)."""
    generator = np.random.Generator(np.random.SFC64(0))
    go_to_stream(generator, key, replicate, purpose)
    return generator


def go_to_stream(generator: np.random.Generator, key: Words, replicate: int, purpose: str) -> None:
    """Put a generator at the start of a stream: the seeds of many at a time cost little."""
    seeds = _seeds(key.tobytes(), replicate // STREAMS_PER_SEED, PURPOSES[purpose])
    generator.bit_generator.state = {
        "bit_generator": "SFC64",
        "state": {"state": seeds[replicate % STREAMS_PER_SEED]},
        "has_uint32": 0,
        "uinteger": 0,
    }


@lru_cache(maxsize=16)
def _seeds(key: bytes, group: int, purpose: int) -> NDArray[np.uint64]:
    """State, 256 bits, of the streams of a group of replicates.

    The words handed to SeedSequence have a fixed number, so that no two addresses coincide.
    """
    words = [*np.frombuffer(key, dtype=np.uint32), np.uint32(group), np.uint32(purpose)]
    seeds = np.random.SeedSequence(words).generate_state(4 * STREAMS_PER_SEED, np.uint64)
    return seeds.astype(np.uint64).reshape(STREAMS_PER_SEED, 4)


def stream_key(seed: int, identity: str) -> Words:
    """Eight words that stand for the study's seed and the condition's content."""
    digest = hashlib.sha256(f"{seed}/{identity}".encode()).digest()
    return np.frombuffer(digest, dtype=np.uint32)
