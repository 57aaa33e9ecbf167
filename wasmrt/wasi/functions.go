package wasi

// ModuleName is the module that guests import preview1 from.
const ModuleName = "wasi_snapshot_preview1"

// function is one host function. Every one returns an errno, except proc_exit,
// which never returns.
type function struct {
	params string // one letter a parameter: i is i32, I is i64
	void   bool
	call   func(*System, frame) errno
}

// functions are those of preview1, by name.
// Source: WASI preview1, wasi_snapshot_preview1.witx.
var functions = map[string]function{
	"args_get":          {params: "ii", call: argsGet},
	"args_sizes_get":    {params: "ii", call: argsSizesGet},
	"environ_get":       {params: "ii", call: environGet},
	"environ_sizes_get": {params: "ii", call: environSizesGet},

	"clock_res_get":  {params: "ii", call: clockResGet},
	"clock_time_get": {params: "iIi", call: clockTimeGet},

	"fd_advise":             {params: "iIIi", call: fdAdvise},
	"fd_allocate":           {params: "iII", call: fdAllocate},
	"fd_close":              {params: "i", call: fdClose},
	"fd_datasync":           {params: "i", call: fdDatasync},
	"fd_fdstat_get":         {params: "ii", call: fdFdstatGet},
	"fd_fdstat_set_flags":   {params: "ii", call: fdFdstatSetFlags},
	"fd_fdstat_set_rights":  {params: "iII", call: fdFdstatSetRights},
	"fd_filestat_get":       {params: "ii", call: fdFilestatGet},
	"fd_filestat_set_size":  {params: "iI", call: fdFilestatSetSize},
	"fd_filestat_set_times": {params: "iIIi", call: fdFilestatSetTimes},
	"fd_pread":              {params: "iiiIi", call: fdPread},
	"fd_prestat_dir_name":   {params: "iii", call: fdPrestatDirName},
	"fd_prestat_get":        {params: "ii", call: fdPrestatGet},
	"fd_pwrite":             {params: "iiiIi", call: fdPwrite},
	"fd_read":               {params: "iiii", call: fdRead},
	"fd_readdir":            {params: "iiiIi", call: fdReaddir},
	"fd_renumber":           {params: "ii", call: fdRenumber},
	"fd_seek":               {params: "iIii", call: fdSeek},
	"fd_sync":               {params: "i", call: fdSync},
	"fd_tell":               {params: "ii", call: fdTell},
	"fd_write":              {params: "iiii", call: fdWrite},

	"path_create_directory":   {params: "iii", call: pathCreateDirectory},
	"path_filestat_get":       {params: "iiiii", call: pathFilestatGet},
	"path_filestat_set_times": {params: "iiiiIIi", call: pathFilestatSetTimes},
	"path_link":               {params: "iiiiiii", call: pathLink},
	"path_open":               {params: "iiiiiIIii", call: pathOpen},
	"path_readlink":           {params: "iiiiii", call: pathReadlink},
	"path_remove_directory":   {params: "iii", call: pathRemoveDirectory},
	"path_rename":             {params: "iiiiii", call: pathRename},
	"path_symlink":            {params: "iiiii", call: pathSymlink},
	"path_unlink_file":        {params: "iii", call: pathUnlinkFile},

	"poll_oneoff": {params: "iiii", call: pollOneoff},
	"proc_exit":   {params: "i", void: true, call: procExit},
	"proc_raise":  {params: "i", call: procRaise},
	"random_get":  {params: "ii", call: randomGet},
	"sched_yield": {params: "", call: schedYield},

	"sock_accept":   {params: "iii", call: sockAccept},
	"sock_recv":     {params: "iiiiii", call: sockRecv},
	"sock_send":     {params: "iiiii", call: sockSend},
	"sock_shutdown": {params: "ii", call: sockShutdown},
}
