"""GPUs that are not there: tensors live on the CPU, and torch behaves as if some of them were on a card.

The device of a tensor is that of its storage. A dispatch mode sees every operation, those of backward passes and
optimisers, too: it refuses to mix devices as torch does, puts results where their inputs are, counts the bytes of every
storage from its birth to its death, runs out of memory, and notes whatever makes the CPU wait for the card. A function
mode answers what a dispatch mode cannot see: devices, moves between them, new tensors, conversions to numpy.

What it cannot tell: speed, the numbers of real kernels, cuDNN's workspaces, fragmented memory.
"""

import contextlib
import threading
import weakref
from dataclasses import dataclass, field
from types import SimpleNamespace

import torch
from torch.optim.optimizer import Optimizer
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten
CPU = torch.device("cpu")
PLAIN = (torch.Tensor, torch.nn.Parameter, torch.nn.parameter.Buffer)
BLOCK, SEGMENT = 512, 2 << 20  # bytes that torch's allocator rounds tensors and reservations up to

COPIES = {aten.copy_, aten._to_copy}
# Operations in which even single numbers must be on the same device.
STRICT = {aten.cat, aten.stack}
INDEXED = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_, aten._unsafe_index}
WAITING = {aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.equal, aten._unique2, aten.unique_dim}


@dataclass
class Card:
    """One simulated GPU: what torch.cuda reports of it.

    Attributes:
        total: bytes of memory.
        others: bytes that other programs use.
        allocated, reserved, peak_allocated, peak_reserved: bytes of live tensors, and of what torch keeps for them.
    """

    index: int
    total: int
    others: int = 0
    allocated: int = 0
    reserved: int = 0
    peak_allocated: int = 0
    peak_reserved: int = 0

    def take(self, size):
        """Count a new tensor, or run out of memory."""
        if self.allocated + size > self.total - self.others:
            raise torch.OutOfMemoryError(
                f"CUDA out of memory. Tried to allocate {size / 2**20:.2f} MiB. GPU {self.index} has a total capacity "
                f"of {self.total / 2**30:.2f} GiB of which {(self.total - self.others - self.allocated) / 2**20:.2f} "
                f"MiB is free."
            )
        self.allocated += size
        self.reserved = max(self.reserved, min(_rounded(self.allocated, SEGMENT), self.total - self.others))
        self.reset(peak=False)

    def reset(self, *, peak=True):
        """Begin a new peak, or raise it to what is held now."""
        self.peak_allocated = max(self.allocated, 0 if peak else self.peak_allocated)
        self.peak_reserved = max(self.reserved, 0 if peak else self.peak_reserved)

    def empty_cache(self):
        self.reserved = _rounded(self.allocated, SEGMENT)


@dataclass
class SimulatedCards:
    """All cards of a machine, and the tensors on them; ``installed`` makes torch see them.

    Attributes:
        cards: of the machine.
        bfloat16: whether the cards compute in bfloat16.
        half: whether autocast computes in half precision, as slowly as CPUs do that; else it leaves float32 as it is.
        waits: what made the CPU wait for a card, in order; the test clears it.
        operations: operations that ran on each card.
        kind: ``cuda``, or ``mps`` for an Apple GPU, which has no float64 and not every operation.
        lacking: operations that it does not have.
    """

    cards: list[Card]
    bfloat16: bool = True
    half: bool = False
    waits: list[str] = field(default_factory=list)
    operations: list[int] = field(default_factory=list)
    kind: str = "cuda"
    lacking: set[object] = field(default_factory=set)
    current: int = 0
    devices: dict[int, torch.device] = field(default_factory=dict)
    pinned: set[int] = field(default_factory=set)
    local: threading.local = field(default_factory=threading.local)

    @classmethod
    def of(cls, *gigabytes, **options):
        """Cards of these sizes, in GB (1e9 bytes)."""
        cards = [Card(index=index, total=int(size * 1e9)) for index, size in enumerate(gigabytes)]
        return cls(cards=cards, operations=[0] * len(cards), **options)

    # Where tensors are

    def device_of(self, tensor):
        if type(tensor) not in PLAIN or not self.devices:
            return tensor.device
        with torch._C.DisableTorchFunction():
            return self.devices.get(tensor.untyped_storage()._cdata, tensor.device)

    def hold(self, tensor, device):
        """Count the storage of a new tensor on a card; a storage that is known stays where it is."""
        if type(tensor) not in PLAIN:
            return
        with torch._C.DisableTorchFunction():
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key in self.devices or tensor.device != CPU:
                return
            if self.kind == "mps" and tensor.dtype == torch.float64:
                raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support it.")
            size = _rounded(storage.nbytes(), BLOCK)
            self.cards[device.index].take(size)
            self.devices[key] = device
            weakref.finalize(storage, self._release, key, size).atexit = False

    def _release(self, key, size):
        self.cards[self.devices.pop(key).index].allocated -= size

    def pin(self, tensor):
        with torch._C.DisableTorchFunction():
            storage = tensor.untyped_storage()
        self.pinned.add(storage._cdata)
        weakref.finalize(storage, self.pinned.discard, storage._cdata).atexit = False
        return tensor

    def is_pinned(self, tensor):
        with torch._C.DisableTorchFunction():
            return tensor.untyped_storage()._cdata in self.pinned

    def resolve(self, device):
        """A device with its number; a GPU that is not there is torch's error."""
        device = torch.device("cuda", device) if type(device) is int else torch.device(device)
        if device.type != self.kind:
            return device
        index = self.current if device.index is None else device.index
        if index >= len(self.cards):
            raise RuntimeError("CUDA error: invalid device ordinal")
        return torch.device(self.kind, index)

    def card(self, device=None):
        return self.cards[self.current if device is None else self.resolve(device).index]

    @contextlib.contextmanager
    def placing(self, *, forced=None, default=None):
        """Put new tensors on a device: all of them, or those of operations without any tensor."""
        before = vars(self.local).copy()
        self.local.forced, self.local.default = forced, default
        try:
            yield
        finally:
            vars(self.local).clear()
            vars(self.local).update(before)

    def wait(self, why):
        self.waits.append(why)

    def note_copy(self, source, target, *, non_blocking, from_pinned):
        """A copy between devices waits unless it is asked not to and, on its way to a card, starts in pinned memory."""
        if source == target:
            return
        if not non_blocking:
            self.wait(f"copy from {source} to {target}")
        elif source.type == "cpu" and not from_pinned:
            self.wait("copy of memory that is not pinned")

    # How torch sees it

    @contextlib.contextmanager
    def modes(self):
        with _Operations(self), _Functions(self):
            yield

    @contextlib.contextmanager
    def installed(self, monkeypatch):
        """Let torch see the cards, in this thread and in those that start meanwhile."""
        if self.kind == "mps":
            monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
            monkeypatch.setattr(torch.mps, "_is_in_bad_fork", lambda: True)  # or it would seed a GPU
        else:
            for name, replacement in self._torch_cuda().items():
                monkeypatch.setattr(torch.cuda, name, replacement, raising=False)
        monkeypatch.setattr(torch, "Generator", _generator_class(self))
        monkeypatch.setattr(torch.amp.autocast_mode.autocast, "__init__", _autocast_init(self))
        real_groups = torch._C._group_tensors_by_device_and_dtype
        monkeypatch.setattr(torch._C, "_group_tensors_by_device_and_dtype", _grouped(self, real_groups))
        monkeypatch.setattr(Optimizer, "_cuda_graph_capture_health_check", lambda self: None)
        monkeypatch.setattr(torch.distributed, "init_process_group", _joined_by_gloo(torch.distributed))
        run, cards = threading.Thread.run, self

        def run_with_cards(thread):
            with cards.modes():
                run(thread)

        monkeypatch.setattr(threading.Thread, "run", run_with_cards)
        with self.modes():
            yield self

    def _torch_cuda(self):
        """Replacements in torch.cuda."""

        class On:  # torch.cuda.device
            def __init__(on, device):
                on.index = cards.resolve(device).index

            def __enter__(on):
                on.before, cards.current = cards.current, on.index

            def __exit__(on, *_):
                cards.current = on.before

        class Event:
            def __init__(event, *_, **__):
                event.recorded = False

            def record(event, *_):
                event.recorded = True

            def synchronize(event):
                assert event.recorded
                cards.wait("event")

            def query(event):
                return True

        cards = self
        properties = [
            SimpleNamespace(name=f"Simulated GPU {c.index}", total_memory=c.total, major=9, minor=0) for c in self.cards
        ]
        return {
            "is_available": lambda: True,
            "is_initialized": lambda: True,
            "_lazy_init": lambda: None,
            "_is_in_bad_fork": lambda: False,
            "device_count": lambda: len(cards.cards),
            "current_device": lambda: cards.current,
            "set_device": lambda device: setattr(cards, "current", cards.resolve(device).index),
            "device": On,
            "Event": Event,
            "get_device_name": lambda device=None: properties[cards.card(device).index].name,
            "get_device_properties": lambda device=None: properties[cards.card(device).index],
            "get_device_capability": lambda device=None: (9, 0),
            "is_bf16_supported": lambda including_emulation=True: cards.bfloat16,
            "mem_get_info": lambda device=None: (
                cards.card(device).total - cards.card(device).others - cards.card(device).reserved,
                cards.card(device).total,
            ),
            "memory_allocated": lambda device=None: cards.card(device).allocated,
            "max_memory_allocated": lambda device=None: cards.card(device).peak_allocated,
            "memory_reserved": lambda device=None: cards.card(device).reserved,
            "max_memory_reserved": lambda device=None: cards.card(device).peak_reserved,
            "reset_peak_memory_stats": lambda device=None: cards.card(device).reset(),
            "empty_cache": lambda: [card.empty_cache() for card in cards.cards] and None,
            "synchronize": lambda device=None: cards.wait("synchronize"),
            "current_stream": lambda device=None: None,  # one stream, whose work is done at once
            "get_rng_state": lambda device=None: torch.get_rng_state(),
            "set_rng_state": lambda state, device=None: None,
            "manual_seed": lambda seed: None,
            "manual_seed_all": lambda seed: None,
        }


class _Operations(TorchDispatchMode):
    """Every operation: are its inputs together, where is its result, and does the CPU wait for it."""

    def __init__(self, cards):
        super().__init__()
        self.cards = cards

    @classmethod
    def ignore_compile_internals(cls):
        return True  # nothing is compiled here, and the check costs more than an operation

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        cards, kwargs, packet = self.cards, kwargs or {}, func.overloadpacket
        forced = getattr(cards.local, "forced", None)
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        inputs = [tensor for tensor in tensors if type(tensor) in PLAIN]
        if len(inputs) < len(tensors):  # tensors that hold nothing, as planning prices steps with
            return func(*args, **kwargs)
        if forced is not None:
            device = forced
        elif packet in COPIES:
            device = cards.device_of(inputs[0])
            if packet is aten.copy_:
                blocking = not (kwargs.get("non_blocking", False) or (len(args) > 2 and args[2]))
                source = cards.device_of(inputs[-1])
                from_pinned = source == CPU and cards.is_pinned(inputs[-1])
                cards.note_copy(source, device, non_blocking=not blocking, from_pinned=from_pinned)
        else:
            device = self._common_device(packet, args, inputs)
            if not inputs:
                device = getattr(cards.local, "default", None) or CPU
        on_card = device.type == cards.kind
        if on_card and packet in cards.lacking:
            name = f"{packet}".replace(".", "::")
            raise NotImplementedError(f"The operator '{name}' is not currently implemented for the MPS device.")
        result = func(*args, **kwargs)
        if on_card:
            cards.operations[device.index] += 1
            if forced is None and self._waits(packet, args):
                cards.wait(str(packet))
            for leaf in tree_leaves(result):
                if isinstance(leaf, torch.Tensor):
                    cards.hold(leaf, device)
        return result

    def _common_device(self, packet, args, inputs):
        """Where the result will be.

        Raises:
            RuntimeError: as torch's own, where inputs are on several devices.
        """
        cards, excused = self.cards, set()
        if packet in INDEXED and cards.device_of(args[0]).type == cards.kind:
            excused = {id(index) for index in args[1] if index is not None and cards.device_of(index) == CPU}
        devices, numbers = [], []
        for tensor in inputs:
            if id(tensor) in excused:
                continue
            device = cards.device_of(tensor)
            is_number = tensor.dim() == 0 and device == CPU and packet not in STRICT
            (numbers if is_number else devices).append(device)
        several = sorted({str(device) for device in devices})
        if len(several) > 1:
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but found at least two devices, {several[1]} and "
                f"{several[0]}! (when checking an argument of {packet})"
            )
        return (devices or numbers or [CPU])[0]

    @staticmethod
    def _waits(packet, args):
        if packet in INDEXED:
            masks = [index for index in args[1] if index is not None and index.dtype in (torch.bool, torch.uint8)]
            fills = packet not in (aten.index, aten._unsafe_index) and args[2].numel() == 1  # a masked fill
            return bool(masks) and not fills
        return packet in WAITING


class _Functions(TorchFunctionMode):
    """Calls of torch: devices, moves, new tensors and conversions."""

    def __init__(self, cards):
        super().__init__()
        self.cards, tensor = cards, torch.Tensor
        self.handlers = {
            tensor.device.__get__: cards.device_of,
            tensor.is_cuda.__get__: lambda t: cards.device_of(t).type == "cuda",
            tensor.is_cpu.__get__: lambda t: cards.device_of(t).type == "cpu",
            tensor.get_device: lambda t: -1 if cards.device_of(t).index is None else cards.device_of(t).index,
            tensor.to: self._to,
            tensor.cpu: lambda t, memory_format=None: self._move(t, CPU, memory_format=memory_format),
            tensor.cuda: lambda t, device="cuda", non_blocking=False: self._move(t, device, non_blocking=non_blocking),
            tensor.numpy: self._numpy,
            tensor.__array__: self._numpy,
            tensor.tolist: self._tolist,
            tensor.pin_memory: self._pin,
            tensor.is_pinned: lambda t, device=None: cards.is_pinned(t),
            tensor.new_tensor: self._new_tensor,
            tensor.backward: self._backward,
            tensor.__deepcopy__: self._deepcopy,
        }

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in self.handlers and type(args[0]) in PLAIN:
            return self.handlers[func](*args, **kwargs)
        pinned = kwargs.get("pin_memory", False)
        if pinned:
            kwargs = {**kwargs, "pin_memory": False}
        device = kwargs.get("device")
        if device is not None and self.cards.resolve(device).type in (self.cards.kind, "cpu"):
            device = self.cards.resolve(device)
            self._check_generator(kwargs.get("generator"), device)
            if func in (torch.tensor, torch.as_tensor):
                self.cards.note_copy(CPU, device, non_blocking=False, from_pinned=False)
            with self.cards.placing(forced=device):
                result = func(*args, **{**kwargs, "device": CPU})
        else:
            on = (self.cards.device_of(leaf) for leaf in tree_leaves((args, kwargs)) if type(leaf) in PLAIN)
            with self.cards.placing(default=next((d for d in on if d != CPU), None)):
                result = func(*args, **kwargs)
        return self.cards.pin(result) if pinned else result

    def _check_generator(self, generator, device):
        if generator is not None and torch.device(generator.device).type != device.type:
            raise RuntimeError(
                f"Expected a '{device.type}' device type for generator but found '{generator.device.type}'"
            )

    def _to(self, tensor, *args, **kwargs):
        copy = kwargs.pop("copy", False)
        other = kwargs.pop("other", args[0] if args and isinstance(args[0], torch.Tensor) else None)
        if other is not None:
            device, dtype = self.cards.device_of(other), other.dtype
            rest = args[1:] if args else ()
            non_blocking, layout = kwargs.get("non_blocking", rest[0] if rest else False), None
        else:
            device, dtype, non_blocking, layout = torch._C._nn._parse_to(*args, **kwargs)
        return self._move(tensor, device, dtype=dtype, non_blocking=non_blocking, memory_format=layout, copy=copy)

    def _move(self, tensor, device, *, dtype=None, non_blocking=False, memory_format=None, copy=False):
        cards = self.cards
        source = cards.device_of(tensor)
        target = source if device is None else cards.resolve(device)
        if target.type not in ("cpu", cards.kind):
            return tensor.to(target)
        dtype, layout = dtype or tensor.dtype, memory_format or torch.preserve_format
        if source == target:
            return tensor.to(dtype=dtype, copy=copy, memory_format=layout)
        cards.note_copy(source, target, non_blocking=non_blocking, from_pinned=cards.is_pinned(tensor))
        with cards.placing(forced=target):
            moved = tensor.to(dtype=dtype, copy=True, memory_format=layout)
        if non_blocking and target == CPU:  # torch copies into pinned memory then
            cards.pin(moved)
        return moved

    def _numpy(self, tensor, *args, **kwargs):
        device = self.cards.device_of(tensor)
        if device != CPU:
            raise TypeError(
                f"can't convert {device} device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host "
                f"memory first."
            )
        return tensor.numpy(*args, **kwargs) if not args else tensor.__array__(*args, **kwargs)

    def _tolist(self, tensor):
        if self.cards.device_of(tensor) != CPU:
            self.cards.wait("tolist")
        return tensor.tolist()

    def _new_tensor(self, tensor, data, *, dtype=None, device=None, requires_grad=False):
        device = self.cards.device_of(tensor) if device is None else device
        with self:  # as a call of its own
            return torch.tensor(data, dtype=dtype or tensor.dtype, device=device, requires_grad=requires_grad)

    def _pin(self, tensor, device=None):
        if self.cards.device_of(tensor) != CPU:
            raise RuntimeError("cannot pin 'torch.cuda.FloatTensor' only dense CPU tensors can be pinned")
        return self.cards.pin(tensor.clone())

    def _backward(self, tensor, gradient=None, retain_graph=None, create_graph=False, inputs=None):
        # Functions that are called again within a backward pass, as checkpointing does, are seen as well.
        device = self.cards.device_of(tensor)
        with self, self.cards.placing(default=None if device == CPU else device):
            torch.autograd.backward(tensor, gradient, retain_graph, create_graph, inputs=inputs)

    def _deepcopy(self, tensor, memo):
        device = self.cards.device_of(tensor)
        if device == CPU:
            return tensor.__deepcopy__(memo)
        copied = tensor.detach().clone()
        if isinstance(tensor, torch.nn.Parameter):
            copied = torch.nn.Parameter(copied, tensor.requires_grad)
        memo[id(tensor)] = copied
        return copied


def _generator_class(cards):
    real = torch.Generator

    class Generator(real):
        """A CPU's generator that calls itself the card's."""

        device = CPU

        def __new__(cls, device="cpu"):
            made = real.__new__(cls)
            made.device = cards.resolve(device)
            return made

    return Generator


def _autocast_init(cards):
    real = torch.amp.autocast_mode.autocast.__init__

    def init(self, device_type, dtype=None, enabled=True, cache_enabled=None):
        """A card's autocast is the CPU's, in the same half precision."""
        if device_type == cards.kind:
            dtype = torch.float16 if dtype is None else dtype
            device_type, enabled = "cpu", enabled and cards.half
        real(self, device_type, dtype, enabled, cache_enabled)

    return init


def _grouped(cards, real):
    def group(tensors, with_indices=False):
        """Torch's groups, which know the CPU only, with their tensors' own devices."""
        found = real(tensors, with_indices)
        renamed = {}
        for (_, dtype), (lists, indices) in found.items():
            members = [tensor for tensor in lists[0] if tensor is not None]
            devices = {cards.device_of(tensor) for tensor in members}
            assert len(devices) == 1, f"one optimiser has weights on {sorted(map(str, devices))}"
            renamed[devices.pop(), dtype] = (lists, indices)
        return renamed

    return group


def _joined_by_gloo(distributed):
    real = distributed.init_process_group

    def join(backend, **options):
        """NCCL joins the processes of cards; here gloo does, and it is checked that NCCL was asked for."""
        assert backend == "cpu:gloo,cuda:nccl", backend
        return real("gloo", **options)

    return join


def _rounded(size, unit):
    return -(-size // unit) * unit
