"""`functions.lua` itself, in an interpreter of the Lua that servers have."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from lupa.lua51 import LuaError, LuaRuntime, lua_type

from deltawire.gateway.engines.redis.library import SOURCE
from tests.simulation.store import RefusedError, Reply, Status, Store

_REDIS = """
function(call, register)
  redis = {register_function = register, pcall = call}
  redis.call = function(...)
    local reply = call(...)
    if type(reply) == 'table' and reply.err then error(reply.err, 0) end
    return reply
  end
end
"""


class Functions:
    """The functions.

    Attributes:
        names: of all.
    """

    def __init__(self, source: str = SOURCE) -> None:
        self._lua = LuaRuntime(encoding=None, register_eval=False)
        self._store: Store
        self._functions: dict[str, Any] = {}
        self._make = self._lua.eval("function(...) return {...} end")
        setup = self._lua.eval(_REDIS)
        setup(self._call, self._register)
        self._lua.execute(source.partition("\n")[2].encode())
        self.names = tuple(self._functions)

    def call(self, store: Store, name: str, keys: Sequence[bytes], args: Sequence[bytes]) -> Reply:
        """Call one on a store.

        Raises:
            RefusedError: it fails, in the server's words.
        """
        self._store = store
        try:
            reply = self._functions[name](self._make(*keys), self._make(*args))
            if lua_type(reply) == "table" and reply[b"err"] is not None:
                raise RefusedError(reply[b"err"].decode())
            return self._reply(reply)
        except LuaError as error:
            text = str(error).partition("\n")[0]  # a traceback follows
            begin = next((it for it in ("WRONGTYPE", "ERR ") if text.startswith(it)), "")
            raise RefusedError(text if begin else f"ERR user_function: {text}") from None

    def _register(self, what: Any, function: Any = None) -> None:
        if function is None:
            what, function = what[b"function_name"], what[b"callback"]
        self._functions[what.decode()] = function

    def _call(self, *command: Any) -> Any:
        try:
            return self._value(self._store.execute(*map(_argument, command)))
        except RefusedError as error:
            table = self._make()
            table[b"err"] = str(error).encode()
            return table

    def _value(self, reply: Reply) -> Any:
        match reply:
            case None:
                return False
            case list():
                return self._make(*map(self._value, reply))
            case Status():
                table = self._make()
                table[b"ok"] = bytes(reply)
                return table
            case _:
                return reply

    def _reply(self, value: Any) -> Reply:
        if lua_type(value) == "table":
            found = []
            for at in range(1, len(value) + 1):
                if (part := value[at]) is None:
                    break
                found.append(self._reply(part))
            return found
        if value is False or value is None:
            return None
        return int(value) if isinstance(value, (int, float)) else value


def _argument(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise RefusedError("ERR Lua redis lib command arguments must be strings or integers")
    return b"%.17g" % value


@cache
def functions() -> Functions:
    """Those of the package."""
    return Functions()
