package validation

import (
	"net"
	"path"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// How an iSCSI name of each kind looks (RFC 3720, 3.2.6).
var iscsiNames = map[string]*regexp.Regexp{
	"iqn": regexp.MustCompile(`iqn\.\d{4}-\d{2}\.([[:alnum:]-.]+)(:[^,;*&$|\s]+)$`),
	"eui": regexp.MustCompile(`^eui.[[:alnum:]]{16}$`),
	"naa": regexp.MustCompile(`^naa.[[:alnum:]]{32}$`),
}

// diskVolume judges the volumes of disks. No node of ours mounts them; a
// manifest that has one is judged as elsewhere.
func (f *findings) diskVolume(types *onlyOne, at *field.Path, v *corev1.Volume) {
	if d := v.GCEPersistentDisk; d != nil && types.first(f, at.Child("gcePersistentDisk")) {
		f.notEmpty(at.Child("persistentDisk", "pdName"), d.PDName)
		f.partition(at.Child("persistentDisk", "partition"), d.Partition)
	}
	if d := v.AWSElasticBlockStore; d != nil && types.first(f, at.Child("awsElasticBlockStore")) {
		f.notEmpty(at.Child("awsElasticBlockStore", "volumeID"), d.VolumeID)
		f.partition(at.Child("awsElasticBlockStore", "partition"), d.Partition)
	}
	if s := v.ISCSI; s != nil && types.first(f, at.Child("iscsi")) {
		f.iscsi(at.Child("iscsi"), s)
		if s.InitiatorName != nil && len(v.Name+":"+s.TargetPortal) > 64 {
			f.invalid(at.Child("name"), v.Name, "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.")
		}
	}
	if c := v.FC; c != nil && types.first(f, at.Child("fc")) {
		f.fibreChannel(at.Child("fc"), c)
	}
	if c := v.Cinder; c != nil && types.first(f, at.Child("cinder")) {
		f.notEmpty(at.Child("cinder", "volumeID"), c.VolumeID)
		f.optionalSecret(at.Child("cinder"), c.SecretRef)
	}
	if d := v.VsphereVolume; d != nil && types.first(f, at.Child("vsphereVolume")) {
		f.notEmpty(at.Child("vsphereVolume", "volumePath"), d.VolumePath)
	}
	if d := v.PhotonPersistentDisk; d != nil && types.first(f, at.Child("photonPersistentDisk")) {
		f.notEmpty(at.Child("photonPersistentDisk", "pdID"), d.PdID)
	}
	if d := v.AzureDisk; d != nil && types.first(f, at.Child("azureDisk")) {
		f.azureDisk(at.Child("azureDisk"), d)
	}
}

// clusterVolume judges the volumes of storage clusters and of drivers.
func (f *findings) clusterVolume(types *onlyOne, at *field.Path, v *corev1.Volume) {
	if n := v.NFS; n != nil && types.first(f, at.Child("nfs")) {
		f.notEmpty(at.Child("nfs", "server"), n.Server)
		f.notEmpty(at.Child("nfs", "path"), n.Path)
		if !path.IsAbs(n.Path) {
			f.invalid(at.Child("nfs", "path"), n.Path, "must be an absolute path")
		}
	}
	if g := v.Glusterfs; g != nil && types.first(f, at.Child("glusterfs")) {
		f.notEmpty(at.Child("glusterfs", "endpoints"), g.EndpointsName)
		f.notEmpty(at.Child("glusterfs", "path"), g.Path)
	}
	if d := v.Flocker; d != nil && types.first(f, at.Child("flocker")) {
		f.flocker(at.Child("flocker"), d)
	}
	if r := v.RBD; r != nil && types.first(f, at.Child("rbd")) {
		f.someOf(at.Child("rbd", "monitors"), r.CephMonitors)
		f.notEmpty(at.Child("rbd", "image"), r.RBDImage)
	}
	if c := v.CephFS; c != nil && types.first(f, at.Child("cephFS")) {
		f.someOf(at.Child("cephfs", "monitors"), c.Monitors)
	}
	if q := v.Quobyte; q != nil && types.first(f, at.Child("quobyte")) {
		f.quobyte(at.Child("quobyte"), q)
	}
	if a := v.AzureFile; a != nil && types.first(f, at.Child("azureFile")) {
		f.notEmpty(at.Child("azureFile", "secretName"), a.SecretName)
		f.notEmpty(at.Child("azureFile", "shareName"), a.ShareName)
	}
	if p := v.PortworxVolume; p != nil && types.first(f, at.Child("portworxVolume")) {
		f.notEmpty(at.Child("portworxVolume", "volumeID"), p.VolumeID)
	}
	if s := v.StorageOS; s != nil && types.first(f, at.Child("storageos")) {
		f.storageOS(at.Child("storageos"), s)
	}
	if s := v.ScaleIO; s != nil && types.first(f, at.Child("scaleIO")) {
		f.notEmpty(at.Child("scaleIO", "gateway"), s.Gateway)
		f.notEmpty(at.Child("scaleIO", "system"), s.System)
		f.notEmpty(at.Child("scaleIO", "volumeName"), s.VolumeName)
	}
	if x := v.FlexVolume; x != nil && types.first(f, at.Child("flexVolume")) {
		f.flexVolume(at.Child("flexVolume"), x)
	}
	if c := v.CSI; c != nil && types.first(f, at.Child("csi")) {
		f.csi(at.Child("csi"), c)
	}
}

func (f *findings) partition(at *field.Path, n int32) {
	if n < 0 || n > 255 {
		f.invalid(at, n, validation.InclusiveRangeError(1, 255))
	}
}

func (f *findings) someOf(at *field.Path, list []string) {
	if len(list) == 0 {
		f.required(at, "")
	}
}

func (f *findings) optionalSecret(at *field.Path, ref *corev1.LocalObjectReference) {
	if ref != nil {
		f.notEmpty(at.Child("secretRef", "name"), ref.Name)
	}
}

func (f *findings) iscsi(at *field.Path, s *corev1.ISCSIVolumeSource) {
	f.notEmpty(at.Child("targetPortal"), s.TargetPortal)
	if s.IQN == "" {
		f.required(at.Child("iqn"), "")
	} else {
		f.iscsiName(at.Child("iqn"), s.IQN)
	}
	f.lun(at.Child("lun"), s.Lun)
	if (s.DiscoveryCHAPAuth || s.SessionCHAPAuth) && s.SecretRef == nil {
		f.required(at.Child("secretRef"), "")
	}
	if s.InitiatorName != nil {
		f.iscsiName(at.Child("initiatorname"), *s.InitiatorName)
	}
}

func (f *findings) iscsiName(at *field.Path, name string) {
	form, ok := iscsiNames[name[:min(len(name), 3)]]
	switch {
	case !ok:
		f.invalid(at, name, "must be valid format starting with iqn, eui, or naa")
	case !form.MatchString(name):
		f.invalid(at, name, "must be valid format")
	}
}

func (f *findings) lun(at *field.Path, n int32) {
	if n < 0 || n > 255 {
		f.invalid(at, n, validation.InclusiveRangeError(0, 255))
	}
}

func (f *findings) fibreChannel(at *field.Path, c *corev1.FCVolumeSource) {
	wwns := at.Child("targetWWNs")
	if len(c.TargetWWNs) == 0 && len(c.WWIDs) == 0 {
		f.required(wwns, "must specify either targetWWNs or wwids, but not both")
	}
	if len(c.TargetWWNs) != 0 && len(c.WWIDs) != 0 {
		f.invalid(wwns, c.TargetWWNs, "targetWWNs and wwids can not be specified simultaneously")
	}
	if len(c.TargetWWNs) == 0 {
		return
	}
	if c.Lun == nil {
		f.required(at.Child("lun"), "lun is required if targetWWNs is specified")
	} else {
		f.lun(at.Child("lun"), *c.Lun)
	}
}

func (f *findings) azureDisk(at *field.Path, d *corev1.AzureDiskVolumeSource) {
	f.notEmpty(at.Child("diskName"), d.DiskName)
	f.notEmpty(at.Child("diskURI"), d.DataDiskURI)
	if d.CachingMode != nil {
		unless(f, at.Child("cachingMode"), *d.CachingMode, corev1.AzureDataDiskCachingNone, corev1.AzureDataDiskCachingReadOnly, corev1.AzureDataDiskCachingReadWrite)
	}
	if d.Kind == nil {
		return
	}
	unless(f, at.Child("kind"), *d.Kind, corev1.AzureDedicatedBlobDisk, corev1.AzureManagedDisk, corev1.AzureSharedBlobDisk)
	prefix, form := "https://", "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"
	if *d.Kind == corev1.AzureManagedDisk {
		prefix, form = "/subscriptions/", "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"
	}
	if !strings.HasPrefix(d.DataDiskURI, prefix) {
		f.add(field.NotSupported(at.Child("diskURI"), d.DataDiskURI, []string{form}))
	}
}

func (f *findings) flocker(at *field.Path, d *corev1.FlockerVolumeSource) {
	if d.DatasetName == "" && d.DatasetUUID == "" {
		f.required(at, "one of datasetName and datasetUUID is required")
	}
	if d.DatasetName != "" && d.DatasetUUID != "" {
		f.invalid(at, "resource", "datasetName and datasetUUID can not be specified simultaneously")
	}
	if strings.Contains(d.DatasetName, "/") {
		f.invalid(at.Child("datasetName"), d.DatasetName, "must not contain '/'")
	}
}

func (f *findings) quobyte(at *field.Path, q *corev1.QuobyteVolumeSource) {
	const form = "must be a host:port pair or multiple pairs separated by commas"
	switch {
	case q.Registry == "":
		f.required(at.Child("registry"), form)
	case len(q.Tenant) > 64:
		f.required(at.Child("tenant"), "must be a UUID and may not exceed a length of 64 characters")
	default:
		for pair := range strings.SplitSeq(q.Registry, ",") {
			if _, _, err := net.SplitHostPort(pair); err != nil {
				f.invalid(at.Child("registry"), q.Registry, form)
				break
			}
		}
	}
	f.notEmpty(at.Child("volume"), q.Volume)
}

func (f *findings) storageOS(at *field.Path, s *corev1.StorageOSVolumeSource) {
	if s.VolumeName == "" {
		f.required(at.Child("volumeName"), "")
	} else {
		f.label(at.Child("volumeName"), s.VolumeName)
	}
	if s.VolumeNamespace != "" {
		f.label(at.Child("volumeNamespace"), s.VolumeNamespace)
	}
	f.optionalSecret(at, s.SecretRef)
}

func (f *findings) flexVolume(at *field.Path, x *corev1.FlexVolumeSource) {
	f.notEmpty(at.Child("driver"), x.Driver)
	for option := range x.Options {
		domain, _, _ := strings.Cut(option, "/")
		domain = "." + strings.ToLower(domain)
		if strings.HasSuffix(domain, ".kubernetes.io") || strings.HasSuffix(domain, ".k8s.io") {
			f.invalid(at.Child("options").Key(option), option, "kubernetes.io and k8s.io namespaces are reserved")
		}
	}
}

func (f *findings) csi(at *field.Path, c *corev1.CSIVolumeSource) {
	driver := at.Child("driver")
	f.notEmpty(driver, c.Driver)
	if len(c.Driver) > 63 {
		f.add(field.TooLong(driver, "", 63))
	}
	f.each(driver, c.Driver, validation.IsDNS1123Subdomain(strings.ToLower(c.Driver)))
	if ref := c.NodePublishSecretRef; ref != nil {
		if ref.Name == "" {
			f.required(at.Child("nodePublishSecretRef", "name"), "")
		} else {
			f.each(at.Child("name"), ref.Name, apivalidation.NameIsDNSSubdomain(ref.Name, false))
		}
	}
}
