"""DPOR against brute force, on programs with every kind of blocking; and on the core race with its known answers."""

from __future__ import annotations

import core_race
import pytest
from random_programs import Case, Program, build_of, corpus
from small_dpor import machine, step

from ptactors.engine.actor import Actor
from ptactors.engine.audit import Audit
from ptactors.engine.dpor import races as races_module
from ptactors.engine.dpor import trace
from ptactors.engine.dpor.brute import brute_force
from ptactors.engine.dpor.explore import explore
from ptactors.engine.dpor.live import Live, Result
from ptactors.engine.dpor.marks import Marks, dependent
from ptactors.engine.dpor.races import Races
from ptactors.engine.strategy import base
from ptactors.model.rng import SplitMix64
from ptactors.model.state import State

PROGRAMS = 2000
