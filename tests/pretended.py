"""A GPU on a CPU: tensors that say they are on `cuda:0`, computed here, and refused beside those that are not.

Torch's own fake tensors compute nothing, and take no pass backward where there is no driver. Here a tensor of the
pretended GPU holds one of the CPU, on which every operation is carried out. To torch's C++ it is on the device "meta",
whose passes backward need no driver; to Python it is on `cuda:0`. What mixes devices is refused as a GPU refuses it:

    tensors of the CPU without dimensions may enter operations element by element, and the GPU writes to none of them
    indices in brackets may lie on the CPU
    copies convert; everything else must be on one device, a generator and what is drawn from it too
"""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager, nullcontext
from types import SimpleNamespace
from unittest.mock import patch

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
aten = torch.ops.aten
COPIES = {aten._to_copy, aten.copy_, aten._foreach_copy_}
INDEXED = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}
# What autocast computes in its own type, as far as networks here ask for it.
NARROWED = {torch.conv2d, torch._C._nn.linear, torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__}


class OnGPU(torch.Tensor):
    """A tensor of the pretended GPU; `here` is what it holds."""

    here: torch.Tensor

    @staticmethod
    def __new__(cls, here):
        how = {"dtype": here.dtype, "device": "meta"}
        made = torch.Tensor._make_wrapper_subclass(cls, here.shape, here.stride(), here.storage_offset(), **how)
        made.here = here
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl
    device = property(lambda self: GPU)
    is_cuda = property(lambda self: True)
    is_meta = property(lambda self: False)

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return carried_out(function, args, kwargs or {})

    def tolist(self):
        return self.here.tolist()

    def numpy(self, **_):
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy it first")

    def __reduce_ex__(self, protocol):
        return self.here.detach().__reduce_ex__(protocol)

    def __format__(self, how):
        return format(self.here, how)

    def __repr__(self):
        return f"OnGPU({self.here})"


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return carried_out(function, args, kwargs or {})


def carried_out(function, args, kwargs):
    """Carry an operation out on what its tensors hold, if they may meet."""
    given = [one for one in inside(*args, *kwargs.values()) if isinstance(one, torch.Tensor)]
    there = [tensor for tensor in given if isinstance(tensor, OnGPU)]
    if len(there) not in (0, len(given)):
        check(function, args, kwargs)
    asked = kwargs.get("device")
    to_gpu = bool(there) if asked is None else torch.device(asked).type in ("cuda", "meta")
    if asked is not None:
        kwargs = {**kwargs, "device": CPU}
    result = function(*each(held, args), **{name: each(held, value) for name, value in kwargs.items()})
    if not to_gpu:
        return result
    as_given = {id(tensor.here): tensor for tensor in there}  # what is written to in place

    def back(one):
        return (as_given[id(one)] if id(one) in as_given else OnGPU(one)) if isinstance(one, torch.Tensor) else one

    return each(back, result)


def check(function, args, kwargs):
    """Raise RuntimeError, as a GPU does, where tensors of two devices meet that may not."""
    packet = function.overloadpacket
    if packet in COPIES:
        return
    if packet in INDEXED and isinstance(args[0], OnGPU):
        args = (args[0], *args[2:])
    given = [one for one in inside(*args, *kwargs.values()) if isinstance(one, torch.Tensor)]
    here = [tensor for tensor in given if not isinstance(tensor, OnGPU)]
    if torch.Tag.pointwise in function.tags:
        said = [argument.alias_info for argument in function._schema.arguments]
        changed = [one for one, alias in zip(args, said, strict=False) if alias and alias.is_write]
        here = [tensor for tensor in here if tensor.dim() or any(tensor is one for one in inside(*changed))]
    if 0 < len(here) < len(given):
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! ({packet})"
        )


def inside(*values):
    """Yield arguments of an operation, of which some are lists."""
    for value in values:
        if isinstance(value, list | tuple):
            yield from value
        else:
            yield value


def each(call, value):
    """Return a value, or a list or tuple, with every one of it given through a call."""
    return type(value)([each(call, one) for one in value]) if type(value) in (list, tuple) else call(value)


def held(value):
    return value.here if isinstance(value, OnGPU) else value


class _Calls(TorchFunctionMode):
    """What has to be seen as Python calls it: what generators are used for, and what autocast narrows."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        asked, generator = kwargs.get("device"), kwargs.get("generator")
        if isinstance(generator, Generator):
            beside = next((one.device for one in args if isinstance(one, torch.Tensor)), CPU)
            device = beside if asked is None else torch.device(asked)
            if generator.device.type != device.type:
                found = f"Expected a '{device.type}' device type for generator but found '{generator.device.type}'"
                raise RuntimeError(found)
        if function is torch.tensor and asked is not None:  # which would copy past every mode
            return function(*args, **{**kwargs, "device": "cpu"}).to(asked)
        if function is torch.Tensor.__getitem__ and isinstance(args[1], list):  # of which C++ makes nothing on "meta"
            args = args[0], torch.tensor(args[1])
        if function == torch.Tensor.data.__set__ and isinstance(args[0], OnGPU):
            args[0].here = args[1].here
        if function in NARROWED and torch.is_autocast_enabled("cuda"):
            args = [narrowed(one) for one in args]
        return function(*map(numbered, args), **{name: numbered(value) for name, value in kwargs.items()})


def numbered(value):
    """Return a GPU as the one that is meant, which C++ would ask the driver for."""
    return GPU if isinstance(value, str | torch.device) and str(value) == "cuda" else value


def narrowed(value):
    floats = isinstance(value, OnGPU) and value.is_floating_point()
    return value.to(torch.get_autocast_dtype("cuda")) if floats else value


def pageable(empty):
    def made(*size, pin_memory=False, **how):
        return empty(*size, **how)

    return made


class Generator(torch.Generator):
    """A generator that says on which device it is."""

    def __new__(cls, device="cpu"):
        made = super().__new__(cls, "cpu")
        made.pretended = torch.device(device)
        return made

    device = property(lambda self: self.pretended)


def pinned(tensor):
    if isinstance(tensor, OnGPU):
        raise RuntimeError("cannot pin 'torch.cuda.FloatTensor' only dense CPU tensors can be pinned")
    return tensor.clone()


@contextmanager
def a_gpu(free=2**30):
    """Have torch pretend that there is a GPU with so many bytes free, on which no step is recorded; yield it."""
    stream = SimpleNamespace(wait_stream=lambda other: None)
    told = {
        "_lazy_init": lambda: None,
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "is_bf16_supported": lambda including_emulation=True: True,
        "get_device_capability": lambda device=None: (9, 0),
        "get_device_name": lambda device=None: "a pretended GPU",
        "current_stream": lambda device=None: stream,
        "default_stream": lambda device=None: stream,
        "Stream": lambda device=None: stream,
        "stream": lambda stream: nullcontext(),
        "get_rng_state": lambda device=None: torch.get_rng_state(),
        "set_rng_state": lambda state, device=None: None,
        "synchronize": lambda device=None: None,
        "empty_cache": lambda: None,
        "mem_get_info": lambda device=None: (free, free),
        "memory_reserved": lambda device=None: 0,
        "memory_allocated": lambda device=None: 0,
        "max_memory_allocated": lambda device=None: 0,
    }
    with ExitStack() as stack:
        for name, value in told.items():
            stack.enter_context(patch.object(torch.cuda, name, value))
        stack.enter_context(patch.object(torch.Tensor, "pin_memory", pinned))
        stack.enter_context(patch.object(torch, "empty", pageable(torch.empty)))
        stack.enter_context(patch.object(torch, "Generator", Generator))
        stack.enter_context(patch.dict(os.environ, LOTTERY_HUB_WITHOUT="graphs"))
        stack.enter_context(_Operations())
        stack.enter_context(_Calls())
        yield GPU
