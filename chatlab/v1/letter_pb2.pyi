from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class Letter(_message.Message):
    __slots__ = ("id", "body", "seq", "sent_at", "clock")
    ID_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    SENT_AT_FIELD_NUMBER: _ClassVar[int]
    CLOCK_FIELD_NUMBER: _ClassVar[int]
    id: str
    body: str
    seq: int
    sent_at: float
    clock: int
    def __init__(self, id: _Optional[str] = ..., body: _Optional[str] = ..., seq: _Optional[int] = ..., sent_at: _Optional[float] = ..., clock: _Optional[int] = ...) -> None: ...
