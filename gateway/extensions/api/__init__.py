"""The API front: status, the page, and whatever other parts of the gateway answer over HTTP.

A part of the gateway that wants routes of its own gives `app.create_app` Litestar routers. What a caller must be
allowed to do is said on the handler, ``opt={"scope": Scope.ADMIN}``; a handler without a scope is open to all.
"""
