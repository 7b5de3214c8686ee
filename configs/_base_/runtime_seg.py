"""What every segmentation run has: our modules, hooks, logs. The only custom_imports."""

default_scope = "mmseg"
custom_imports = dict(imports=["subpt_dense.segmentation", "subpt_dense.toyworld"], allow_failed_imports=False)

default_hooks = dict(
    timer=dict(type="mmengine.IterTimerHook"),
    logger=dict(type="mmengine.LoggerHook", interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type="mmengine.ParamSchedulerHook"),
    checkpoint=dict(type="mmengine.CheckpointHook", by_epoch=False, interval=1000, max_keep_ckpts=3),
    sampler_seed=dict(type="mmengine.DistSamplerSeedHook"),
    visualization=dict(type="subpt_dense.ClassMapHook"),
    vocabulary=dict(type="subpt_dense.VocabularyHook"),
    report=dict(type="subpt_dense.PromptReportHook"),
    finite_loss=dict(type="subpt_dense.FiniteLossHook"),
    identity=dict(type="subpt_dense.PromptIdentityHook"),
    run_state=dict(type="subpt_dense.RunStateHook"),
    shared_buffers=dict(type="subpt_dense.SharedBuffersHook"),
    prompt_file=dict(type="subpt_dense.PromptFileHook"),
)
env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl"),
)
visualizer = dict(
    type="subpt_dense.ClassMapVisualizer",
    vis_backends=[dict(type="mmengine.LocalVisBackend")],
)
log_processor = dict(type="mmengine.LogProcessor", window_size=50, by_epoch=False)
log_level = "INFO"
randomness = dict(seed=0)
load_from = None
resume = False
