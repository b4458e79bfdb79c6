"""The objects of AsyncAPI 3.0.0 that contracts/asyncapi.json is made of, as strict types.

A field that the specification does not name, or a value that it does not allow, is an error. Each type is named after
its object in the specification; Kafka's are those of its bindings, version 0.5.0.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

Text = Annotated[str, Meta(min_length=1)]
Key = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]+$")]


class Reference(Struct, forbid_unknown_fields=True, rename={"ref": "$ref"}):
    ref: Annotated[str, Meta(pattern=r"^(#/.+|[a-z]+/.+\.json)$")]


class Info(Struct, forbid_unknown_fields=True):
    title: Text
    version: Text
    description: Text = ""


class ServerVariable(Struct, forbid_unknown_fields=True):
    description: Text = ""


class Server(Struct, forbid_unknown_fields=True):
    host: Text
    protocol: Literal["kafka", "kafka-secure"]
    title: Text = ""
    description: Text = ""
    variables: dict[Key, ServerVariable] = {}
    security: list[Reference] = []


class Parameter(Struct, forbid_unknown_fields=True):
    description: Text = ""
    examples: list[str] = []


class KafkaChannel(Struct, forbid_unknown_fields=True):
    partitions: Annotated[int, Meta(gt=0)]
    topicConfiguration: dict[str, Any]
    bindingVersion: Literal["0.5.0"]


class KafkaMessage(Struct, forbid_unknown_fields=True):
    key: dict[str, Any]
    bindingVersion: Literal["0.5.0"]


class ChannelBindings(Struct, forbid_unknown_fields=True):
    kafka: KafkaChannel


class MessageBindings(Struct, forbid_unknown_fields=True):
    kafka: KafkaMessage


class Channel(Struct, forbid_unknown_fields=True):
    address: Text
    messages: dict[Key, Reference]
    bindings: ChannelBindings
    title: Text = ""
    description: Text = ""
    parameters: dict[Key, Parameter] = {}


class Operation(Struct, forbid_unknown_fields=True):
    action: Literal["send", "receive"]
    channel: Reference
    messages: list[Reference]
    title: Text = ""


class Message(Struct, forbid_unknown_fields=True):
    name: Text
    contentType: Literal["application/json"]
    headers: dict[str, Any]
    payload: Reference
    bindings: MessageBindings
    title: Text = ""
    summary: Text = ""
    correlationId: Reference | None = None


class CorrelationId(Struct, forbid_unknown_fields=True):
    location: Annotated[str, Meta(pattern=r"^\$message\.(header|payload)#(/.+)+$")]
    description: Text = ""


class SecurityScheme(Struct, forbid_unknown_fields=True):
    type: Literal["plain", "scramSha256", "scramSha512", "X509", "gssapi"]
    description: Text = ""


class Components(Struct, forbid_unknown_fields=True):
    messages: dict[Key, Message]
    schemas: dict[Key, dict[str, Any]]
    correlationIds: dict[Key, CorrelationId]
    securitySchemes: dict[Key, SecurityScheme]


class Document(Struct, forbid_unknown_fields=True):
    asyncapi: Literal["3.0.0"]
    info: Info
    defaultContentType: Literal["application/json"]
    servers: dict[Key, Server]
    channels: dict[Key, Channel]
    operations: dict[Key, Operation]
    components: Components
