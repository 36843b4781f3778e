"""The `sitecustomize` of the image's Python: what one session has compiled, the next need not compile again.

Each session unpacks the code into a folder of its own, so that Python's own cache is of no use to the next one.
"""

import hashlib
import marshal
import os
from _imp import _fix_co_filename
from importlib.machinery import SourceFileLoader

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "compiled")
compiled = SourceFileLoader.source_to_code


def source_to_code(self, data, path, **more):
    place = os.path.join(FOLDER, hashlib.sha256(data).hexdigest())
    try:
        with open(place, "rb") as file:
            code = marshal.loads(file.read())
        _fix_co_filename(code, path)
        return code
    except (OSError, ValueError, EOFError, TypeError):
        code = compiled(self, data, path, **more)
    os.makedirs(FOLDER, exist_ok=True)
    with open(f"{place}.{os.getpid()}", "wb") as file:
        marshal.dump(code, file)
    os.rename(file.name, place)
    return code


SourceFileLoader.source_to_code = source_to_code
