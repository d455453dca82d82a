"""The same questions about an archive of videos, on several workers, in jobs that survive being killed.

    from functools import partial
    from framefusion.inference.batch import Job, find_videos, map_videos
    from framefusion.inference.batch.local import answer_locally

    job = Job(model="checkpoint", method=FrameFusion(cost=0.3))
    videos = find_videos(["videos/*.mp4"])
    map_videos(job, videos, ["What happens?"], "answers.parquet", partial(answer_locally, workers=2))

One process writes; the workers only answer. What an engine does is one function: tasks in, rows out, in any order.
"""

from framefusion.inference.batch.inputs import find_videos
from framefusion.inference.batch.job import Job, Task
from framefusion.inference.batch.rows import Row
from framefusion.inference.batch.run import Summary, map_videos

__all__ = ["Job", "Row", "Summary", "Task", "find_videos", "map_videos"]
