"""The four operations as functions that a peer can send to its workers by their names."""

from __future__ import annotations


def add(left: float, right: float) -> float:
    return left + right


def sub(left: float, right: float) -> float:
    return left - right


def mul(left: float, right: float) -> float:
    return left * right


def div(left: float, right: float) -> float:
    return left / right
