"""A live dashboard of an executor, in the browser: what it does, and the verbs that steer it.

    with TokenGateExecutor() as executor, serve(executor, password="...") as server:
        print(server.url)

    app.mount("/executor", dashboard_app(executor, password="..."))  # Starlette, FastAPI

It needs Starlette, uvicorn and websockets: the extra ``dashboard``.
"""

from __future__ import annotations

try:
    from tokengate_executor.dashboard.app import dashboard_app
    from tokengate_executor.dashboard.passwords import hash_password
    from tokengate_executor.dashboard.serving import DashboardServer, serve
except ModuleNotFoundError as error:
    _missing = (error.name or "").partition(".")[0]
    if _missing not in {"anyio", "h11", "starlette", "uvicorn", "websockets"}:
        raise
    raise ImportError(
        f'the dashboard needs {_missing}: pip install "tokengate-executor[dashboard]"',
        name=_missing,
    ) from error

__all__ = ["DashboardServer", "dashboard_app", "hash_password", "serve"]
