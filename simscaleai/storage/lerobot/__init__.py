"""Datasets in the format of LeRobot, version 3.0, written and read without the package `lerobot`.

    meta/info.json                               features, fps, robot type, numbers of episodes and frames
    meta/stats.json                              statistics of every feature
    meta/tasks.parquet                           instructions, numbered
    meta/episodes/chunk-000/file-000.parquet     for each episode: length, tasks, its files, statistics
    meta/simscale.parquet                        our own: what LeRobot has no place for; other tools ignore it
    data/chunk-000/file-000.parquet              one line for each frame; images as PNG bytes
    videos/<camera>/chunk-000/file-000.mp4       or as video

`lerobot_writer` writes such a folder, `lerobot_reader` reads one, ours or that of anyone.
"""
