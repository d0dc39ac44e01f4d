// Package jobevents makes texts like the job events of AWX, for measurements of compression: the members that AWX
// emits, for a play of tasks on many hosts, with random names, identifiers, checksums and times.
package jobevents

import (
	"fmt"
	"math/rand/v2"
)

// hostsOfTask is the number of events of a task: one for each host.
const hostsOfTask = 20

// Job makes the events of a job. Jobs with the same id and seed make the same events.
type Job struct {
	id      int
	r       *rand.Rand
	counter int
	task    task
}

// task is the part of events that the hosts of a task share.
type task struct{ name, uuid, parent, path, role, file string }

// New returns a job.
func New(id int, seed uint64) *Job { return &Job{id: id, r: rand.New(rand.NewPCG(seed, uint64(id)))} }

var words = []string{
	"cache", "certificates", "configure", "copy", "database", "deploy", "firewall", "install", "nginx", "packages",
	"postgresql", "proxy", "redis", "restart", "service", "template", "users", "web",
}

func (j *Job) word() string { return words[j.r.IntN(len(words))] }

// hex returns n random hexadecimal digits.
func (j *Job) hex(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = "0123456789abcdef"[j.r.IntN(16)]
	}
	return string(b)
}

func (j *Job) uuid() string {
	return fmt.Sprintf("%s-%s-%s-%s-%s", j.hex(8), j.hex(4), j.hex(4), j.hex(4), j.hex(12))
}

func (j *Job) time() string {
	return fmt.Sprintf("2026-11-28T10:%02d:%02d.%06d", j.r.IntN(60), j.r.IntN(60), j.r.IntN(1e6))
}

// begin begins a task.
func (j *Job) begin() {
	role := j.word()
	j.task = task{
		name:   fmt.Sprintf("%s the %s %s", j.word(), j.word(), j.word()),
		uuid:   "02420a00-0002-1d5d-7b1a-" + j.hex(12),
		parent: j.uuid(),
		path:   fmt.Sprintf("/runner/project/roles/%s/tasks/main.yml:%d", role, j.r.IntN(90)),
		role:   role,
		file:   fmt.Sprintf("/etc/%s/%s.conf", j.word(), j.word()),
	}
}

// Next returns the next event, a JSON object of about 2.4 KB.
func (j *Job) Next() []byte {
	if j.counter%hostsOfTask == 0 {
		j.begin()
	}
	j.counter++
	t, id, uuid := &j.task, 88_120_000+j.counter, j.uuid()
	host := fmt.Sprintf("host-%03d.example.com", j.r.IntN(1000))
	return fmt.Appendf(nil, `{"id": %d, "job": %d, "created": "%s+00:00", "modified": "%s+00:00", `+
		`"group_name": "job_events", "url": "/api/v2/job_events/%d/", `+
		`"stdout": "\u001b[0;33mchanged: [%s]\u001b[0m", "counter": %d, "uuid": %q, "parent_uuid": %q, `+
		`"start_line": %d, "end_line": %d, "event": "runner_on_ok", "event_data": {"playbook": "site.yml", `+
		`"playbook_uuid": "8d3a5c1e-7a52-4f21-9d0e-16a4f3a1b2c7", "play": "shop", `+
		`"play_uuid": "02420a00-0002-1d5d-7b1a-000000000006", "play_pattern": "all", "task": %q, "task_uuid": %q, `+
		`"task_action": "ansible.builtin.template", "resolved_action": "ansible.builtin.template", "task_args": "", `+
		`"task_path": %q, "role": %q, "host": %q, "remote_addr": "10.%d.%d.%d", "res": %s, "start": "%sZ", `+
		`"end": "%sZ", "duration": %d.%06d, "event_loop": null, "uuid": %q}, "failed": false, "changed": true, `+
		`"event_level": 3, "play": "shop", "role": %q, "task": %q}`,
		id, j.id, j.time(), j.time(), id, host, j.counter, uuid, t.parent, j.counter+7, j.counter+8, t.name, t.uuid,
		t.path, t.role, host, j.r.IntN(256), j.r.IntN(256), j.r.IntN(256), j.result(), j.time(), j.time(), j.r.IntN(9),
		j.r.IntN(1e6), uuid, t.role, t.name)
}

// result returns the result of the module template.
func (j *Job) result() string {
	t, checksum := &j.task, j.hex(40)
	source := fmt.Sprintf("/root/.ansible/tmp/ansible-tmp-17%08d.%07d-%d-%015d/source", j.r.IntN(1e8), j.r.IntN(1e7),
		j.r.IntN(99_999), j.r.Int64N(1e15))
	return fmt.Sprintf(`{"changed": true, "diff": {"before": {"path": %q, "mode": "0600"}, "after": {"path": %q, `+
		`"mode": "0644"}}, "path": %q, "checksum": %q, "dest": %q, "gid": 0, "group": "root", "md5sum": %q, `+
		`"mode": "0644", "owner": "root", "secontext": "system_u:object_r:etc_t:s0", "size": %d, "src": %q, `+
		`"state": "file", "uid": 0, "invocation": {"module_args": {"src": %q, "dest": %q, "mode": "0644", `+
		`"follow": false, "_original_basename": "%s.conf.j2", "checksum": %q, "backup": false, "force": true, `+
		`"unsafe_writes": false, "content": null, "validate": null, "directory_mode": null, "remote_src": null, `+
		`"local_follow": null, "owner": null, "group": null, "seuser": null, "serole": null, "selevel": null, `+
		`"setype": null, "attributes": null}}, "_ansible_no_log": false}`,
		t.file, t.file, t.file, checksum, t.file, j.hex(32), j.r.IntN(9000), source, source, t.file, t.role, checksum)
}

// Status returns an event like those about a job's status, of about 300 bytes.
func (j *Job) Status() []byte {
	j.counter++
	return fmt.Appendf(nil, `{"unified_job_id": %d, "status": %q, "type": "job", "instance_group_name": "default", `+
		`"inventory_id": %d, "job_template_id": %d, "group_name": "jobs", "finished": "%sZ", "launch_type": "manual", `+
		`"artifacts": {"checksum": %q}, "uuid": %q}`,
		j.id, j.word(), j.r.IntN(200), j.r.IntN(90), j.time(), j.hex(20), j.uuid())
}
