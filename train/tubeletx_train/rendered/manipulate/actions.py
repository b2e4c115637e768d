"""How the arm moves things: metaworld's scripted policies, recorded."""

from __future__ import annotations

import logging
import os
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tubeletx_train.common.errors import CommandError, UsageError

Array = npt.NDArray[np.float64]

# Of metaworld's places of a thing; the same whatever the seed of a set is.
_PLACES_SEED = 0
_LONGEST = 250  # steps of a policy
_AFTER = 20  # steps after its success, which it has a little before the end
# Shares of the way that a thing moves which its first and last moments, when it hardly does, are cut at.
_FIRST, _LAST = 0.03, 0.97
_ARM = ("right_j", "r_close", "l_close")


def import_metaworld() -> tuple[Any, Any]:
    """The packages metaworld and mujoco. Raises UsageError where they are missing or cannot draw."""
    os.environ.setdefault("MUJOCO_GL", "egl")
    logging.getLogger("OpenGL").setLevel(logging.WARNING)  # it tells what it can do without
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import metaworld
            import metaworld.policies
            import mujoco
    except ImportError as error:
        raise UsageError(
            f"the manipulate set is rendered by the package metaworld, which cannot be used ({error}): "
            "pip install 'tubeletx[render]'"
        ) from error
    return metaworld, mujoco


@dataclass(frozen=True)
class Action:
    """A thing moved all the way, recorded.

    Attributes:
        shares: (N,) increasing from 0 to 1: how far the thing has moved.
        states: (N, Q) positions of all joints then.
    """

    shares: Array
    states: Array

    def at(self, shares: Array) -> Array:
        """Positions (T, Q) of all joints when the thing has moved so far, (T,)."""
        return np.stack([np.interp(shares, self.shares, joint) for joint in self.states.T], axis=1)


class Scene:
    """A task of metaworld: the arm and one thing."""

    def __init__(self, task: str) -> None:
        """Loads it. Raises UsageError where metaworld is missing."""
        metaworld, self._mujoco = import_metaworld()
        tasks = metaworld.MT1(task, seed=_PLACES_SEED)
        self.task = task
        self._places = tasks.train_tasks
        self._environment = tasks.train_classes[task]()
        self._policy = metaworld.policies.ENV_POLICY_MAP[task]
        self._actions: dict[int, Action] = {}

    @property
    def model(self) -> Any:
        """What MuJoCo simulates."""
        return self._environment.model

    @property
    def data(self) -> Any:
        """Its state."""
        return self._environment.data

    def put(self, place: int) -> Action:
        """Put the thing at a place; returns how the arm moves it there.

        Where the policy fails, which at few places it does, the thing is put at the next place.

        Raises:
            CommandError: The policy fails at every place.
        """
        for attempt in range(len(self._places)):
            chosen = (place + attempt) % len(self._places)
            # Where things stand is in the model, hence it is set also where the action is known.
            self._environment.set_task(self._places[chosen])
            observation, _ = self._environment.reset()
            if chosen in self._actions:
                return self._actions[chosen]
            action = self._record(observation)
            if action is not None:
                self._actions[chosen] = action
                return action
        raise CommandError(f"metaworld's policy of {self.task} fails at every place")

    def _record(self, observation: Any) -> Action | None:
        policy = self._policy()
        states = [self.data.qpos.copy()]
        left, succeeded = _LONGEST, False
        while left > 0:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that policies ask for more than the arm can do
                wish = policy.get_action(observation)
            observation, _, _, _, info = self._environment.step(np.clip(wish, -1, 1))
            states.append(self.data.qpos.copy())
            left -= 1
            if info["success"] and not succeeded:
                left, succeeded = min(left, _AFTER), True
        return _action(np.stack(states), self._moved_joints()) if succeeded else None

    def _moved_joints(self) -> list[int]:
        """Places in a state of where the thing is."""
        found: list[int] = []
        for joint in range(self.model.njnt):
            name = self._mujoco.mj_id2name(self.model, self._mujoco.mjtObj.mjOBJ_JOINT, joint) or ""
            if not name.startswith(_ARM):
                first = self.model.jnt_qposadr[joint]
                free = self.model.jnt_type[joint] == self._mujoco.mjtJoint.mjJNT_FREE
                found += range(first, first + (3 if free else 1))
        return found


def _action(states: Array, moved: list[int]) -> Action | None:
    """The part of a recording in which the thing moves; None where it does not."""
    thing = states[:, moved]
    far = np.maximum.accumulate(np.linalg.norm(thing - thing[0], axis=1))
    if far[-1] == 0:
        return None
    far = far / far[-1]
    # Of the moments at one place only the first, so that place and moment tell each other.
    kept = np.concatenate([[True], np.diff(far) > 1e-6]) & (far >= _FIRST) & (far <= _LAST)
    if kept.sum() < 2:
        return None
    far, states = far[kept], states[kept]
    return Action((far - far[0]) / (far[-1] - far[0]), states)
