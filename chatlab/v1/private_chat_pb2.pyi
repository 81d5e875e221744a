from chatlab.v1 import letter_pb2 as _letter_pb2
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
    __slots__ = ("parcels",)
    PARCELS_FIELD_NUMBER: _ClassVar[int]
    parcels: _containers.RepeatedCompositeFieldContainer[Parcel]
    def __init__(self, parcels: _Optional[_Iterable[_Union[Parcel, _Mapping]]] = ...) -> None: ...

class Parcel(_message.Message):
    __slots__ = ("to", "letters")
    TO_FIELD_NUMBER: _ClassVar[int]
    LETTERS_FIELD_NUMBER: _ClassVar[int]
    to: str
    letters: _containers.RepeatedCompositeFieldContainer[_letter_pb2.Letter]
    def __init__(self, to: _Optional[str] = ..., letters: _Optional[_Iterable[_Union[_letter_pb2.Letter, _Mapping]]] = ...) -> None: ...

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
    __slots__ = ("acked", "leaving", "awaiting")
    ACKED_FIELD_NUMBER: _ClassVar[int]
    LEAVING_FIELD_NUMBER: _ClassVar[int]
    AWAITING_FIELD_NUMBER: _ClassVar[int]
    acked: int
    leaving: bool
    awaiting: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, acked: _Optional[int] = ..., leaving: bool = ..., awaiting: _Optional[_Iterable[str]] = ...) -> None: ...

class ReceiveResponse(_message.Message):
    __slots__ = ("deliveries", "reached")
    DELIVERIES_FIELD_NUMBER: _ClassVar[int]
    REACHED_FIELD_NUMBER: _ClassVar[int]
    deliveries: _containers.RepeatedCompositeFieldContainer[Delivery]
    reached: _containers.RepeatedCompositeFieldContainer[Reached]
    def __init__(self, deliveries: _Optional[_Iterable[_Union[Delivery, _Mapping]]] = ..., reached: _Optional[_Iterable[_Union[Reached, _Mapping]]] = ...) -> None: ...

class Delivery(_message.Message):
    __slots__ = ("sender", "incarnation", "redelivered", "letters")
    SENDER_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    REDELIVERED_FIELD_NUMBER: _ClassVar[int]
    LETTERS_FIELD_NUMBER: _ClassVar[int]
    sender: str
    incarnation: int
    redelivered: bool
    letters: _containers.RepeatedCompositeFieldContainer[_letter_pb2.Letter]
    def __init__(self, sender: _Optional[str] = ..., incarnation: _Optional[int] = ..., redelivered: bool = ..., letters: _Optional[_Iterable[_Union[_letter_pb2.Letter, _Mapping]]] = ...) -> None: ...

class Reached(_message.Message):
    __slots__ = ("receiver", "id")
    RECEIVER_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    receiver: str
    id: str
    def __init__(self, receiver: _Optional[str] = ..., id: _Optional[str] = ...) -> None: ...

class GetHistoryRequest(_message.Message):
    __slots__ = ("peer", "limit")
    PEER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    peer: str
    limit: int
    def __init__(self, peer: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class GetHistoryResponse(_message.Message):
    __slots__ = ("deliveries",)
    DELIVERIES_FIELD_NUMBER: _ClassVar[int]
    deliveries: _containers.RepeatedCompositeFieldContainer[Delivery]
    def __init__(self, deliveries: _Optional[_Iterable[_Union[Delivery, _Mapping]]] = ...) -> None: ...

class GetPresenceRequest(_message.Message):
    __slots__ = ("names",)
    NAMES_FIELD_NUMBER: _ClassVar[int]
    names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, names: _Optional[_Iterable[str]] = ...) -> None: ...

class GetPresenceResponse(_message.Message):
    __slots__ = ("presences",)
    PRESENCES_FIELD_NUMBER: _ClassVar[int]
    presences: _containers.RepeatedCompositeFieldContainer[UserPresence]
    def __init__(self, presences: _Optional[_Iterable[_Union[UserPresence, _Mapping]]] = ...) -> None: ...

class UserPresence(_message.Message):
    __slots__ = ("name", "online", "last_seen")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ONLINE_FIELD_NUMBER: _ClassVar[int]
    LAST_SEEN_FIELD_NUMBER: _ClassVar[int]
    name: str
    online: bool
    last_seen: float
    def __init__(self, name: _Optional[str] = ..., online: bool = ..., last_seen: _Optional[float] = ...) -> None: ...
