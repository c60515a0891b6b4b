"""The struct that crosses to the compiled core, field by field as in `abi.h`, which says what each field means."""

from __future__ import annotations

from ctypes import Structure, c_double, c_int64, c_void_p

__all__ = ["Call", "Pooled"]


class Pooled(Structure):
    _fields_ = [("rows", c_int64), ("columns", c_int64), ("mean", c_int64), ("out", c_void_p)]


def _sizes(names: str) -> list[tuple]:
    return [(name, c_int64) for name in names.split()]


def _pointers(names: str) -> list[tuple]:
    return [(name, c_void_p) for name in names.split()]


class Call(Structure):
    _fields_ = [
        *_sizes("size B H G Q K D V first_row all_rows"),
        *_pointers("q k v"),
        ("q_stride", c_int64 * 3),
        ("k_stride", c_int64 * 3),
        ("v_stride", c_int64 * 3),
        *_sizes("dtype threads isa"),
        ("scale", c_double),
        ("softcap", c_double),
        *_pointers("sinks known lo hi"),
        ("span_stride", c_int64 * 3),
        *_pointers("list_start list_panel list_word words"),
        ("list_rows", c_int64),
        ("list_stride", c_int64 * 2),
        *_pointers("table"),
        ("table_stride", c_int64 * 2),
        *_pointers("bias"),
        ("bias_stride", c_int64 * 4),
        ("bias_dtype", c_int64),
        ("bias_hides", c_double),
        *_pointers("out lse entropy top_values top_indices"),
        ("top", c_int64),
        *_pointers("received pooled"),
        ("n_pooled", c_int64),
        *_pointers("passed_over"),
    ]
