"""Video without an end in bounded memory: frames go in as they come, questions are asked at any time.

`session` holds the stream, `window` the frames that wait, `prompt` turns them into columns, `reading` runs the model,
`memory` holds what stays, `policies` say what that is, `positions` keeps their places within the model's limit, `tape`
saves and resumes.
"""
