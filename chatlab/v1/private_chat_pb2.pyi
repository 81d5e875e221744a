from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTCOME_UNSPECIFIED: _ClassVar[Outcome]
    OUTCOME_STORED: _ClassVar[Outcome]
    OUTCOME_DUPLICATE: _ClassVar[Outcome]
    OUTCOME_UNKNOWN_ACCOUNT: _ClassVar[Outcome]
    OUTCOME_MAILBOX_FULL: _ClassVar[Outcome]
    OUTCOME_INVALID: _ClassVar[Outcome]
OUTCOME_UNSPECIFIED: Outcome
OUTCOME_STORED: Outcome
OUTCOME_DUPLICATE: Outcome
OUTCOME_UNKNOWN_ACCOUNT: Outcome
OUTCOME_MAILBOX_FULL: Outcome
OUTCOME_INVALID: Outcome

class ClaimRequest(_message.Message):
    __slots__ = ("name", "secret", "incarnation")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SECRET_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    name: str
    secret: str
    incarnation: int
    def __init__(self, name: _Optional[str] = ..., secret: _Optional[str] = ..., incarnation: _Optional[int] = ...) -> None: ...

class ClaimResponse(_message.Message):
    __slots__ = ("session",)
    SESSION_FIELD_NUMBER: _ClassVar[int]
    session: str
    def __init__(self, session: _Optional[str] = ...) -> None: ...

class SendRequest(_message.Message):
    __slots__ = ("letters",)
    LETTERS_FIELD_NUMBER: _ClassVar[int]
    letters: _containers.RepeatedCompositeFieldContainer[Letter]
    def __init__(self, letters: _Optional[_Iterable[_Union[Letter, _Mapping]]] = ...) -> None: ...

class Letter(_message.Message):
    __slots__ = ("id", "to", "body", "seq", "sent_at", "clock")
    ID_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    SENT_AT_FIELD_NUMBER: _ClassVar[int]
    CLOCK_FIELD_NUMBER: _ClassVar[int]
    id: str
    to: str
    body: str
    seq: int
    sent_at: float
    clock: int
    def __init__(self, id: _Optional[str] = ..., to: _Optional[str] = ..., body: _Optional[str] = ..., seq: _Optional[int] = ..., sent_at: _Optional[float] = ..., clock: _Optional[int] = ...) -> None: ...

class SendResponse(_message.Message):
    __slots__ = ("receipts",)
    RECEIPTS_FIELD_NUMBER: _ClassVar[int]
    receipts: _containers.RepeatedCompositeFieldContainer[Receipt]
    def __init__(self, receipts: _Optional[_Iterable[_Union[Receipt, _Mapping]]] = ...) -> None: ...

class Receipt(_message.Message):
    __slots__ = ("count", "outcome", "waiting", "listeners", "reason")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    LISTENERS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    count: int
    outcome: Outcome
    waiting: int
    listeners: int
    reason: str
    def __init__(self, count: _Optional[int] = ..., outcome: _Optional[_Union[Outcome, str]] = ..., waiting: _Optional[int] = ..., listeners: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class ReceiveRequest(_message.Message):
    __slots__ = ("acked", "leaving")
    ACKED_FIELD_NUMBER: _ClassVar[int]
    LEAVING_FIELD_NUMBER: _ClassVar[int]
    acked: int
    leaving: bool
    def __init__(self, acked: _Optional[int] = ..., leaving: bool = ...) -> None: ...

class ReceiveResponse(_message.Message):
    __slots__ = ("deliveries",)
    DELIVERIES_FIELD_NUMBER: _ClassVar[int]
    deliveries: _containers.RepeatedCompositeFieldContainer[Delivery]
    def __init__(self, deliveries: _Optional[_Iterable[_Union[Delivery, _Mapping]]] = ...) -> None: ...

class Delivery(_message.Message):
    __slots__ = ("id", "sender", "incarnation", "body", "seq", "sent_at", "clock", "redelivered")
    ID_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    SENT_AT_FIELD_NUMBER: _ClassVar[int]
    CLOCK_FIELD_NUMBER: _ClassVar[int]
    REDELIVERED_FIELD_NUMBER: _ClassVar[int]
    id: str
    sender: str
    incarnation: int
    body: str
    seq: int
    sent_at: float
    clock: int
    redelivered: bool
    def __init__(self, id: _Optional[str] = ..., sender: _Optional[str] = ..., incarnation: _Optional[int] = ..., body: _Optional[str] = ..., seq: _Optional[int] = ..., sent_at: _Optional[float] = ..., clock: _Optional[int] = ..., redelivered: bool = ...) -> None: ...
