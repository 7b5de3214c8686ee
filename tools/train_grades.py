"""One prompt for each IoU grade of regions: ``python tools/train_grades.py configs/cls_toy_regions_subpt_nfl.py``.

A detector takes them all by one line: ``prompt = dict(type="subpt_dense.AveragedPrompt", files=".../prompts.json")``.
"""

import argparse
import os

from mmengine.config import DictAction
from rich.console import Console

from subpt_dense.apis.grades import train_grades


def main() -> None:
    """Parse, train, say where the list is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", help="config file that trains on subpt_dense.RegionSet")
    parser.add_argument("--work-dir", help="where everything goes; by default work_dirs/<config name>")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, help="overrides, such as randomness.seed=2")
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none")
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0)  # torch.distributed.launch passes it
    args = parser.parse_args()
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    path = train_grades(args.config, work_dir=args.work_dir, options=args.cfg_options, launcher=args.launcher)
    Console().print(f"prompt list: {path}", markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    try:
        main()
    except (FileNotFoundError, FileExistsError) as error:
        raise SystemExit(f"error: {error}") from None
