"""Talk to a xin node: `Client` blocks, `AsyncClient` is awaited; both offer the same calls."""

from xin.client.async_client import AsyncClient, AsyncModelHandle
from xin.client.client import Client, ModelHandle

__all__ = ["AsyncClient", "AsyncModelHandle", "Client", "ModelHandle"]
