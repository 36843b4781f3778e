"""python scripts/train.py [--recipe NAME] [flags]: the door that the original's documents name, to the same code as
`outlast train`.

python scripts/train.py --data_path STORE --model_config configs/model/last_tiny.yaml
python scripts/train.py --recipe digits
python scripts/train.py --recipe digits --env kaggle --batch_size 16 --epochs 5 --num_workers 2 --debug
"""

import sys

from outlast.cli import _run


def main(argv: list[str]) -> int:
    recipe, rest = "skeleton", []
    words = iter(argv)
    for word in words:
        if word == "--recipe":
            recipe = next(words, "")
        elif word.startswith("--recipe="):
            recipe = word.partition("=")[2]
        else:
            rest.append(word)
    return _run("train", [recipe, *rest])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
