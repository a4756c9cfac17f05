"""What the scripts share: where the server is, how an error must look, and which calls of the SDK have been made.

Nothing here prints a key or a token.
"""
import functools
import inspect
import os
import re
from importlib.metadata import version

import cyborgdb
from cyborgdb.openapi_client.exceptions import ApiException

URL = os.environ["SEALVEC_URL"]
ROOT_KEY = os.environ["SEALVEC_API_KEY"]
SLOT = os.environ["SEALVEC_KMS_SLOT"]
VERSION = tuple(int(part) for part in version("cyborgdb").split("."))
TYPED_ERRORS = VERSION >= (0, 18)

# Keys and tokens in use: no error may repeat one.
SECRETS = {ROOT_KEY}


def client(api_key=ROOT_KEY):
    return cyborgdb.Client(URL, api_key)


def new_key():
    key = cyborgdb.Client.generate_key()
    SECRETS.add(key.hex())
    return key


def status_of(error):
    """The HTTP status behind an error of either version; None where the SDK refused before it sent anything."""
    for attribute in ("status_code", "status"):
        if isinstance(getattr(error, attribute, None), int):
            return getattr(error, attribute)
    found = re.search(r"\((\d{3})\)\nReason:", str(error))
    return int(found.group(1)) if found else None


def refused(status, words, call, *arguments, **named):
    """`call` must fail with that HTTP status and those words (a regular expression) in what the server said.

    With the typed errors of 0.18 the class, the detail and the request id are looked at as well.
    """
    try:
        came = call(*arguments, **named)
    except (ValueError, ApiException) as error:
        text = str(error)
        assert status_of(error) == status, f"expected {status} {words!r}, not {status_of(error)}: {text}"
        assert re.search(words, text), f"expected {words!r} in: {text}"
        for secret in SECRETS:
            assert secret.lower() not in text.lower(), f"an error repeats a key: {words!r}"
        if TYPED_ERRORS and not isinstance(error, ApiException):
            classes = {
                400: cyborgdb.ValidationError,
                401: cyborgdb.AuthenticationError,
                403: cyborgdb.AuthenticationError,
                404: cyborgdb.NotFoundError,
                409: cyborgdb.ConflictError,
                422: cyborgdb.ValidationError,
            }
            expected = classes.get(status, cyborgdb.ServiceError)
            assert type(error) is expected, f"expected {expected.__name__}, not {type(error).__name__}: {text}"
            assert re.search(words, error.detail), error.detail
            assert error.request_id, f"no request id: {text}"
            assert error.retryable is (status >= 500), text
        return error
    raise AssertionError(f"expected {status} {words!r}, came {came!r}")


def refused_by_sdk(call, *arguments, **named):
    """`call` must fail before anything is sent."""
    try:
        came = call(*arguments, **named)
    except (ValueError, TypeError) as error:
        assert status_of(error) is None, error
        return error
    raise AssertionError(f"expected the SDK to refuse, came {came!r}")


class Recorder:
    """Notes which public methods of the SDK's classes were called with which parameters. The calls go through as they
    are; an error of the SDK or the server is not a call that was seen."""

    def __init__(self, *classes):
        self.seen = {}
        for owner in classes:
            for name, member in list(vars(owner).items()):
                if not name.startswith("_") or name == "__init__":
                    self.watch(owner, name, member)

    def watch(self, owner, name, member):
        key = f"{owner.__name__}.{name}"
        plain = member.__func__ if isinstance(member, (staticmethod, classmethod)) else member
        if isinstance(member, property):
            self.seen[key] = {}

            def getter(instance):
                came = member.fget(instance)
                self.seen[key]["called"] = True
                return came

            setattr(owner, name, property(getter))
            return
        if not inspect.isfunction(plain):
            return
        signature = inspect.signature(plain)
        kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        parameters = [p for p in signature.parameters.values() if p.name not in ("self", "cls") and p.kind not in kinds]
        self.seen[key] = {parameter.name: False for parameter in parameters} or {"called": False}

        def note(arguments, named):
            self.seen[key]["called"] = True
            for passed in signature.bind(*arguments, **named).arguments:
                if passed in self.seen[key]:
                    self.seen[key][passed] = True

        if inspect.iscoroutinefunction(plain):

            @functools.wraps(plain)
            async def through(*arguments, **named):
                came = await plain(*arguments, **named)
                note(arguments, named)
                return came

        else:

            @functools.wraps(plain)
            def through(*arguments, **named):
                came = plain(*arguments, **named)
                note(arguments, named)
                return came

        wrapper = type(member) if isinstance(member, (staticmethod, classmethod)) else (lambda function: function)
        setattr(owner, name, wrapper(through))

    def missing(self):
        """Methods never called and parameters never passed."""
        for key, parameters in sorted(self.seen.items()):
            if not parameters.get("called"):
                yield key
            else:
                for name, passed in parameters.items():
                    if not passed:
                        yield f"{key}({name})"
