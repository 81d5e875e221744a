from chatlab.v1 import letter_pb2 as _letter_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TalkRequest(_message.Message):
    __slots__ = ("hello", "letters", "acked", "leaving")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    LETTERS_FIELD_NUMBER: _ClassVar[int]
    ACKED_FIELD_NUMBER: _ClassVar[int]
    LEAVING_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    letters: _containers.RepeatedCompositeFieldContainer[_letter_pb2.Letter]
    acked: int
    leaving: bool
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., letters: _Optional[_Iterable[_Union[_letter_pb2.Letter, _Mapping]]] = ..., acked: _Optional[int] = ..., leaving: bool = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("caller", "peer", "ticket")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    PEER_FIELD_NUMBER: _ClassVar[int]
    TICKET_FIELD_NUMBER: _ClassVar[int]
    caller: str
    peer: str
    ticket: str
    def __init__(self, caller: _Optional[str] = ..., peer: _Optional[str] = ..., ticket: _Optional[str] = ...) -> None: ...

class TalkResponse(_message.Message):
    __slots__ = ("incarnation", "letters", "acked", "proof", "leaving")
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    LETTERS_FIELD_NUMBER: _ClassVar[int]
    ACKED_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    LEAVING_FIELD_NUMBER: _ClassVar[int]
    incarnation: int
    letters: _containers.RepeatedCompositeFieldContainer[_letter_pb2.Letter]
    acked: int
    proof: str
    leaving: bool
    def __init__(self, incarnation: _Optional[int] = ..., letters: _Optional[_Iterable[_Union[_letter_pb2.Letter, _Mapping]]] = ..., acked: _Optional[int] = ..., proof: _Optional[str] = ..., leaving: bool = ...) -> None: ...
