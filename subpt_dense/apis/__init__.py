"""What the command-line tools do, callable from Python."""

from subpt_dense.apis.config import load_config
from subpt_dense.apis.run import test, train
from subpt_dense.apis.transfer import transfer
from subpt_dense.apis.work_dir import claim_work_dir

__all__ = ["claim_work_dir", "load_config", "test", "train", "transfer"]
